"""What hosts are held against: the same weights in a plain transformers model, one row at a time."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from softprior.models.blocks import Blocks, position_table
from softprior.prompt import Batch, Place, Prompt
from softprior.testing.hosts.examples import firsts, texts
from softprior.testing.literal import literal_logits


def embedding(oracle: Any) -> nn.Embedding:
    """The embedding layer."""
    found: nn.Embedding = oracle.get_input_embeddings()
    return found


def stacks(oracle: Any) -> dict[str, Blocks]:
    """The blocks of each stack, by what its sites' names begin with; prompts stand in the first."""
    if not oracle.config.is_encoder_decoder:
        return {"": Blocks.of(oracle)}
    both = {"encoder.": oracle.get_encoder(), "decoder.": oracle.get_decoder()}
    return {name: Blocks(list(stack.block), stack.final_layer_norm) for name, stack in both.items()}


def first_norm(oracle: Any, block: int) -> nn.Module:
    """The first norm of a block that takes prompts."""
    if oracle.config.is_encoder_decoder:
        norm: nn.Module = oracle.get_encoder().block[block].layer[0].layer_norm
        return norm
    return Blocks.of(oracle).norm(block)


def predictions(oracle: Any, prompt: Prompt, text: list[int], first: int) -> Float[Tensor, "N V"]:
    """Logits for a text's tokens from position `first` on, and for the one that would follow it.

    Of an encoder-decoder model the encoder reads what stands before `first`.
    """
    if oracle.config.is_encoder_decoder:
        logits: Tensor = _divided(oracle, prompt, text, first).logits[0]
        return logits
    return literal_logits(oracle, prompt, text)[first - 1 :]


def _divided(oracle: Any, prompt: Prompt, text: list[int], first: int, **options: bool) -> Any:
    """An encoder-decoder model's own forward: the prompt and the text up to `first`, then the rest."""
    states = embedding(oracle)(torch.tensor(text[:first]))
    if prompt:
        states = torch.cat([prompt[Place(0, stack="encoder")].to(states), states])
    read = [oracle.config.decoder_start_token_id, *text[first:]]
    return oracle(
        inputs_embeds=states[None], decoder_input_ids=torch.tensor([read]), use_cache=False, **options
    )


def label_logs(
    oracle: nn.Module, prompt: Prompt, batch: Batch, row: int
) -> tuple[Float[Tensor, "N V"], Int[Tensor, "N"]]:
    """Log-probabilities before each label of a row, and the labels' positions."""
    text, first = texts(batch)[row], firsts(batch)[row]
    where = batch.labels[row, : len(text)].nonzero().squeeze(1)
    return predictions(oracle, prompt, text, first).double().log_softmax(-1)[where - first], where


def positions(site: str, text: list[int], first: int) -> range:
    """Positions of the tokens that pass a site: an encoder's stand before `first`, its decoder's do not."""
    start = first if site.startswith("decoder.") else 0
    return range(start, first if site.startswith("encoder.") else len(text))


def at_sites(
    oracle: Any, states: dict[str, Float[Tensor, "N H"]], text: list[int]
) -> dict[str, Float[Tensor, "N H"]]:
    """States of one text as sites have them: `resid.0` is what the embedding layer returns."""
    return states | ({"resid.0": embedding(oracle)(torch.tensor(text))} if "resid.0" in states else {})


def with_positions(
    oracle: Any, prompt: Prompt, states: Float[Tensor, "N H"], positions: Int[Tensor, "N"]
) -> Float[Tensor, "N H"]:
    """States at `resid.0`, with the learned positions that a model may add to them behind a prompt."""
    table = position_table(oracle)
    front = sum(
        len(vectors) for place, vectors in prompt.items() if place.block == 0 and place.kind == "residual"
    )
    front += max((len(vectors) for place, vectors in prompt.items() if place.kind == "key"), default=0)
    return states if table is None else states + table(positions + front).to(states)


def hidden_states(oracle: Any, text: list[int], first: int) -> dict[str, Float[Tensor, "N H"]]:
    """transformers' `hidden_states` of one text by site; the last block's output is not among them."""
    if oracle.config.is_encoder_decoder:
        out = _divided(oracle, {}, text, first, output_hidden_states=True)
        found = {"encoder.": out.encoder_hidden_states, "decoder.": out.decoder_hidden_states}
    else:
        out = oracle(input_ids=torch.tensor([text]), output_hidden_states=True, use_cache=False)
        found = {"": out.hidden_states}
    states: dict[str, Tensor] = {}
    for stack, layers in found.items():
        states |= {f"{stack}resid.{block}": layer[0] for block, layer in enumerate(layers[:-1])}
        states[f"{stack}final"] = layers[-1][0]
    # The decoder of two stacks reads a start token first, which is not text.
    return {site: state[len(state) - len(positions(site, text, first)) :] for site, state in states.items()}


def passing_states(
    oracle: nn.Module, prompt: Prompt, text: list[int], first: int
) -> dict[str, Float[Tensor, "N H"]]:
    """What passes the residual sites of the literal form, the text's part of it."""
    states: dict[str, Tensor] = {}

    def keep(site: str, value: Tensor) -> None:
        flat = value.reshape(-1, value.shape[-1])
        states[site] = flat[len(flat) - len(positions(site, text, first)) :]

    with ExitStack() as hooks:
        for stack, blocks in stacks(oracle).items():
            for block, layer in enumerate([*blocks.layers, blocks.final_norm]):
                handle = layer.register_forward_pre_hook(
                    lambda _, args, site=f"{stack}resid.{block}": keep(site, args[0])
                )
                hooks.callback(handle.remove)
            handle = blocks.final_norm.register_forward_hook(
                lambda _, __, out, site=f"{stack}final": keep(site, out)
            )
            hooks.callback(handle.remove)
        predictions(oracle, prompt, text, first)
    return states
