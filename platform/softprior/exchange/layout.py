"""What PEFT's `prompt_embeddings` contain, place by place: for prompt tuning, and for prefix tuning.

Prompt tuning: the vectors in front of the input embeddings, [P, H]; of an encoder's, if the model has one.

Prefix tuning: for each vector the key and the value of block 0, those of block 1 and so on, heads
flattened as [kv_head, head_dim], so [P, L * 2 * D]. PEFT's `get_prompt` views this as [P, 2 L, heads,
head_dim] and passes pairs of a key and a value on as `past_key_values`: as attended to, after rotary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.assets.architecture import Config, architecture
from softprior.assets.configs import line
from softprior.errors import UserError
from softprior.prompt import Place, Stack
from softprior.results.posteriors import Vectors
from softprior.results.storage import Location

PeftType = Literal["PROMPT_TUNING", "PREFIX_TUNING"]


class Sizes(NamedTuple):
    """Sizes of a model as its config states them.

    Attributes:
        blocks: L.
        hidden: H.
        queries: number of query heads.
        keys: number of key (and value) heads and the dimension of each; one pair per block. Empty for an
            encoder, whose blocks take no prefix.
        stack: what reads the input.
    """

    blocks: int
    hidden: int
    queries: int
    keys: tuple[tuple[int, int], ...]
    stack: Stack = "decoder"

    @property
    def front(self) -> Place:
        """The place in front of the input embeddings."""
        return Place(0, stack=self.stack)


def sizes_of(folder: Path) -> Sizes:
    """The sizes of the model in a folder.

    Raises:
        UserError: its config cannot be read, or is not that of an attention model.
    """
    config = architecture(folder).config
    try:
        blocks, queries = int(config.num_hidden_layers), int(config.num_attention_heads)
        if config.is_encoder_decoder:
            return Sizes(blocks, int(config.hidden_size), queries, (), "encoder")
        each = getattr(config, "per_layer_config", None)  # where blocks differ, as in Gemma 4
        keys = tuple(_keys(config if each is None else each[block]) for block in range(blocks))
        return Sizes(blocks, int(config.hidden_size), queries, keys)
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"the config.json in {folder} does not give the sizes of an attention model ({line(error)}); "
            "choose another model"
        ) from None


def _keys(config: Config) -> tuple[int, int]:
    queries = int(config.num_attention_heads)
    heads = getattr(config, "num_key_value_heads", None) or queries
    return int(heads), int(getattr(config, "head_dim", None) or config.hidden_size // queries)


def peft_form(
    final: Vectors, sizes: Sizes, source: Location
) -> tuple[PeftType, dict[str, int], Float[Tensor, "P _"]]:
    """PEFT's type, the sizes that its config names, and `prompt_embeddings`.

    Args:
        source: the posterior file, for the error.

    Raises:
        UserError: PEFT has no such prompt, or it does not fit a model of these sizes.
    """
    if set(final) == {sizes.front}:
        named = config_sizes("PROMPT_TUNING", sizes)
        _check_shapes(final, named["token_dim"], source)
        return "PROMPT_TUNING", named, final[sizes.front]
    _check_places(final, sizes, source)
    named = config_sizes("PREFIX_TUNING", sizes)
    _check_shapes(final, named["token_dim"], source)
    return "PREFIX_TUNING", named, torch.cat([final[place] for place in _prefix(sizes)], 1)


def places_of(peft_type: PeftType, embeddings: Float[Tensor, "P _"], sizes: Sizes) -> Vectors:
    """The vectors of each place; the inverse of `peft_form`. The width has been checked before."""
    if peft_type == "PROMPT_TUNING":
        return {sizes.front: embeddings}
    return dict(zip(_prefix(sizes), embeddings.chunk(2 * sizes.blocks, 1), strict=True))


def config_sizes(peft_type: PeftType, sizes: Sizes) -> dict[str, int]:
    """The sizes that PEFT's config names; for a prefix with grouped queries, those of keys and values.

    Raises:
        UserError: blocks differ in these sizes; PEFT then stores the largest and cuts it down. Or the model
            has an encoder, and it is a prefix.
    """
    if peft_type == "PROMPT_TUNING":
        width, heads = sizes.hidden, sizes.queries
    elif sizes.stack == "encoder":
        raise UserError(
            "a prefix can be exchanged only for decoder-only models, and this one has an encoder; use a "
            "prompt of the method soft"
        )
    else:
        shapes = sorted(set(sizes.keys))
        if len(shapes) > 1:
            listed = " and ".join(f"{heads} x {size}" for heads, size in shapes)
            raise UserError(
                "a prefix can be exchanged only if all blocks have keys of one shape, but this model's have "
                f"{listed} (heads x dimension); use the method soft"
            )
        ((heads, size),) = shapes
        width = heads * size
    return {"token_dim": width, "num_layers": sizes.blocks, "num_attention_heads": heads}


_EXCHANGED = "PEFT accepts only prompts of the method soft, or of prefix with every block"


def _prefix(sizes: Sizes) -> list[Place]:
    """The places of a prefix in PEFT's order."""
    return [place for block in range(sizes.blocks) for place in (Place(block, "key"), Place(block, "value"))]


def _check_places(final: Vectors, sizes: Sizes, source: Location) -> None:
    """Whether the places are the key and the value of every block."""
    # Before anything else, as nothing that others advise makes a deep prompt one that PEFT has.
    for place in sorted(final):
        if place.kind == "residual" and place.after == "cut":
            raise UserError(
                f"{source} is a deep prompt, with vectors that are cut out of the sequence again "
                f"({place.name}); {_EXCHANGED}"
            )
    for place in sorted(final):
        if place.stack != sizes.stack:
            raise UserError(
                f"{source} has vectors of a model whose input is read by its {place.stack} ({place.name}), "
                f"but this model's is read by its {sizes.stack}; give the model they belong to with --model"
            )
        if place.placement != "front":
            raise UserError(
                f"{source} has vectors behind the beginning-of-sequence token (placement: "
                f"{place.placement}), and PEFT puts them in front of it, where they give other logits; train "
                "with placement: front, or write embeddings with the command `embed`"
            )
        if place.kind == "residual" or place.after == "cut":
            raise UserError(
                f"{source} has vectors at {', '.join(p.name for p in sorted(final))}; {_EXCHANGED}"
            )
        if place.block >= sizes.blocks:
            raise UserError(
                f"{source} has vectors at {place.name}, but the model has blocks 0 to {sizes.blocks - 1}; "
                "give the model they belong to with --model"
            )
    for place in sorted(final):
        other = Place(place.block, "value" if place.kind == "key" else "key")
        if other not in final:
            raise UserError(
                f"{source} has vectors at {place.name} but none at {other.name}; {_EXCHANGED}, with both "
                "keys and values"
            )
    blocks = sorted({place.block for place in final})
    if len(blocks) < sizes.blocks:
        listed = ", ".join(str(block) for block in blocks) or "none"
        raise UserError(
            f"{source} has a prefix at some blocks only ({listed} of {sizes.blocks}); {_EXCHANGED}"
        )


def _check_shapes(final: Vectors, width: int, source: Location) -> None:
    for place, vectors in sorted(final.items()):
        if vectors.ndim != 2 or vectors.shape[1] != width:
            raise UserError(
                f"{source} has vectors of shape {list(vectors.shape)} at {place.name}, but the model's have "
                f"{width} dimensions; give the model they belong to with --model"
            )
    counts = sorted({len(vectors) for vectors in final.values()})
    if len(counts) > 1:
        raise UserError(
            f"{source} has {' and '.join(map(str, counts))} vectors at its places; {_EXCHANGED}, with the "
            "same number at each"
        )
