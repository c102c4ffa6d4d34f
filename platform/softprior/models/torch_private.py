"""Private parts of PyTorch, checked on torch 2.13.0; they have the same names and arguments in 2.11."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

KINDS = 64
"""Kinds of passes that torch.compile serves with a kernel of their own; beyond them it runs uncompiled."""


def allow_kinds_of_passes() -> None:
    """Raises torch.compile's limit of eight kinds: passes differ by gradient, by strides and so on."""
    # Imported here, since it takes a second and most processes compile nothing.
    from torch._dynamo import config

    config.recompile_limit = KINDS


def flash_attention(
    query: Float[Tensor, "N A D"],
    key: Float[Tensor, "M K D"],
    value: Float[Tensor, "M K D"],
    queries: Int[Tensor, "ends"],
    keys: Int[Tensor, "ends"],
    most: tuple[int, int],
    scaling: float | None,
    window: int | None,
) -> Float[Tensor, "N A D"]:
    """Causal attention of sequences of different lengths; the last query of each is at its last key.

    The public form, `torch.nn.attention.varlen.varlen_attn`, calls the same kernel through operators that are
    written in Python, which takes a processor longer than all else that attention does.

    Args:
        queries, keys: cumulative numbers of queries and keys, from 0 on.
        most: queries and keys of the longest sequence.
        window: how many keys back a query sees, itself among them; None for all.
    """
    found: Tensor = torch.ops.aten._flash_attention_forward.default(
        query,
        key,
        value,
        queries,
        keys,
        *most,
        0.0,
        window is None,
        False,
        scale=scaling,
        window_size_left=-1 if window is None else window - 1,
        window_size_right=0,
    )[0]
    return found
