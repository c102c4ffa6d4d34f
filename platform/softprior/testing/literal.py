"""The literal form of prompts: each row alone, no packing, no cache, transformers' eager attention.

This is the oracle for every host. It does what the paper describes, step by step: embed the text,
prepend the prompt, run the blocks; at a block with a cut prompt prepend its vectors to the input,
run the block at the longer length, cut them from the output.
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
    """Logits at every position of one text under a prompt.

    Args:
        model: a causal model loaded with `attn_implementation="eager"`.
        prompt: residual places, kept at block 0 or cut anywhere.
        tokens: one row, without padding.
    """
    prompt = prompt or {}
    decoder: Any = model.get_decoder()  # type: ignore[operator]
    blocks = Blocks.of(model)
    learned = position_kind(model) == "learned"
    states = model.get_input_embeddings()(torch.tensor(tokens))  # type: ignore[operator]
    if Place(0) in prompt:
        states = torch.cat([prompt[Place(0)].to(states), states])
    first_cut = prompt.get(Place(0, after="cut"))
    if learned:
        whole = states if first_cut is None else torch.cat([first_cut.to(states), states])
        whole = whole + decoder.wpe(torch.arange(len(whole)))
        states = whole if first_cut is None else whole[len(first_cut) :]
        first_cut = None if first_cut is None else whole[: len(first_cut)]

    for index, layer in enumerate(blocks.layers):
        cut = first_cut if index == 0 else prompt.get(Place(index, after="cut"))
        x = states if cut is None else torch.cat([cut.to(states), states])
        arguments: dict[str, Any] = {
            "attention_mask": _mask(x, getattr(_attention(layer), "sliding_window", None))
        }
        if not learned:
            positions = torch.arange(len(x))[None]
            rotary = decoder.rotary_emb
            typed = "layer_type" in inspect.signature(rotary.forward).parameters
            extra = (_attention(layer).layer_type,) if typed else ()
            arguments["position_embeddings"] = rotary(x[None], positions, *extra)
        out = layer(x[None], **arguments)
        out = (out[0] if isinstance(out, tuple) else out)[0]
        states = out if cut is None else out[len(cut) :]

    states = blocks.final_norm(states[-len(tokens) :])
    logits: Tensor = model.get_output_embeddings()(states)  # type: ignore[operator]
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _attention(layer: nn.Module) -> Any:
    return layer.self_attn if hasattr(layer, "self_attn") else layer.attn


def _mask(x: Tensor, window: int | None) -> Tensor:
    steps = torch.arange(len(x))
    back = steps[:, None] - steps[None, :]
    seen = (back >= 0) if window is None else (back >= 0) & (back < window)
    return torch.zeros(len(x), len(x), dtype=x.dtype).masked_fill(~seen, torch.finfo(x.dtype).min)[None, None]
