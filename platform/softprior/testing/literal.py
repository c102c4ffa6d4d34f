"""The literal form of prompts: each row alone, no packing, no cache, transformers' eager attention.

This is the oracle for every host. It does what the paper describes, step by step: embed the text,
prepend the prompt, run the blocks; at a block with a cut prompt prepend its vectors to the input,
run the block at the longer length, cut them from the output. A prompt with `placement: after_bos` is
inserted behind the first token instead, and cut from there. Prefix keys and values go through
transformers' own cache instead, as PEFT's prefix tuning hands them over.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softprior.models.blocks import Blocks, position_kind
from softprior.prompt import Place, Prompt


def literal_logits(model: nn.Module, prompt: Prompt | None, tokens: list[int]) -> Float[Tensor, "T V"]:
    """Logits behind every token of one text under a prompt.

    Behind the first token a kept prompt may follow: its last vector then predicts what comes next.

    Args:
        model: a causal model loaded with `attn_implementation="eager"`.
        prompt: residual places, kept at block 0 or cut anywhere; or keys and values.
        tokens: one row, without padding.
    """
    prompt = prompt or {}
    if any(place.kind != "residual" for place in prompt):
        return _prefixed_logits(model, prompt, tokens)
    decoder: Any = model.get_decoder()  # type: ignore[operator]
    blocks = Blocks.of(model)
    learned = position_kind(model) == "learned"
    states = model.get_input_embeddings()(torch.tensor(tokens))  # type: ignore[operator]
    lead = int(any(place.placement == "after_bos" for place in prompt))
    prompt = {place.in_front: vectors for place, vectors in prompt.items()}

    def joined(vectors: Tensor, states: Tensor) -> Tensor:
        return torch.cat([states[:lead], vectors.to(states), states[lead:]])

    def without(count: int, states: Tensor) -> Tensor:
        return torch.cat([states[:lead], states[lead + count :]])

    if Place(0) in prompt:
        states = joined(prompt[Place(0)], states)
    first_cut = prompt.get(Place(0, after="cut"))
    states = states * _multiplier(model)
    first_cut = None if first_cut is None else first_cut * _multiplier(model)
    if learned:
        whole = states if first_cut is None else joined(first_cut, states)
        whole = whole + decoder.wpe(torch.arange(len(whole)))
        states = whole if first_cut is None else without(len(first_cut), whole)
        first_cut = None if first_cut is None else whole[lead : lead + len(first_cut)]

    for index, layer in enumerate(blocks.layers):
        cut = first_cut if index == 0 else prompt.get(Place(index, after="cut"))
        x = states if cut is None else joined(cut, states)
        arguments: dict[str, Any] = {"attention_mask": _mask(x, _window(layer))}
        if not learned:
            positions = torch.arange(len(x))[None]
            rotary = decoder.rotary_emb
            typed = "layer_type" in inspect.signature(rotary.forward).parameters
            extra = (_attention(layer).layer_type,) if typed else ()
            arguments["position_embeddings"] = rotary(x[None], positions, *extra)
        out = layer(x[None], **arguments)
        out = (out[0] if isinstance(out, tuple) else out)[0]
        states = out if cut is None else without(len(cut), out)

    return _logits(model, blocks.final_norm(states[-len(tokens) :]))


def _multiplier(model: Any) -> float:
    """What Granite multiplies its embeddings by."""
    return float(getattr(model.config, "embedding_multiplier", 1.0))


def _logits(model: Any, states: Float[Tensor, "T H"]) -> Float[Tensor, "T V"]:
    config = model.config.get_text_config()
    # What Granite divides its logits by, and Gemma's cap.
    logits: Tensor = model.get_output_embeddings()(states) / getattr(config, "logits_scaling", 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _prefixed_logits(model: Any, prompt: Prompt, tokens: list[int]) -> Float[Tensor, "T V"]:
    """The blocks one after another, each with its own prefix as a cache and text at positions from P."""
    decoder: Any = model.get_decoder()
    learned = position_kind(model) == "learned"
    count = max(len(vectors) for vectors in prompt.values())
    states = model.get_input_embeddings()(torch.tensor(tokens)) * _multiplier(model)
    positions = torch.arange(count, count + len(tokens))[None]
    if learned:
        states = states + decoder.wpe(positions[0])
    for index, layer in enumerate(Blocks.of(model).layers):
        arguments: dict[str, Any] = {}
        keys = prompt.get(Place(index, "key"))
        front = 0 if keys is None else count
        if not learned:
            rotary = decoder.rotary_emb
            typed = "layer_type" in inspect.signature(rotary.forward).parameters
            extra = (_attention(layer).layer_type,) if typed else ()
            arguments["position_embeddings"] = rotary(states[None], positions, *extra)
        if keys is not None:
            named = inspect.signature(layer.forward).parameters
            cache = "layer_past" if "layer_past" in named else "past_key_values"  # GPT-NeoX's name
            arguments[cache] = _Preset(index, keys, prompt[Place(index, "value")])
        mask = _mask(torch.zeros(front + len(tokens), 1, dtype=states.dtype), _window(layer))
        arguments["attention_mask"] = mask[:, :, front:]
        out = layer(states[None], **arguments)
        states = (out[0] if isinstance(out, tuple) else out)[0]
    return _logits(model, Blocks.of(model).final_norm(states))


class _Preset:
    """What a block's attention asks a cache for: its prefix in front of the keys and values it brings."""

    def __init__(self, block: int, keys: Tensor, values: Tensor) -> None:
        self.block, self.keys, self.values = block, keys, values

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        assert layer == self.block

        def front(flat: Tensor, like: Tensor) -> Tensor:
            heads = flat.to(like).view(len(flat), like.shape[1], like.shape[3])
            return torch.cat([heads.transpose(0, 1)[None], like], 2)

        return front(self.keys, keys), front(self.values, values)


def _attention(layer: nn.Module) -> Any:
    return next(getattr(layer, name) for name in ("self_attn", "attn", "attention") if hasattr(layer, name))


def _window(layer: nn.Module) -> int | None:
    """A block's sliding window; of families that have no kinds of blocks, the config's."""
    attention = _attention(layer)
    found: int | None = getattr(
        attention, "sliding_window", getattr(attention.config, "sliding_window", None)
    )
    return found


def _mask(x: Tensor, window: int | None) -> Tensor:
    steps = torch.arange(len(x))
    back = steps[:, None] - steps[None, :]
    seen = (back >= 0) if window is None else (back >= 0) & (back < window)
    return torch.zeros(len(x), len(x), dtype=x.dtype).masked_fill(~seen, torch.finfo(x.dtype).min)[None, None]
