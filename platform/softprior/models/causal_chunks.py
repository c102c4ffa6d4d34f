"""Attention of padded rows by chunks of queries, on CPUs.

The fused kernel of a CPU makes the product of every query with every key, also where padding or causality
hides it. With the rows in order of length, a call for each chunk of queries takes the rows that reach it and
the keys up to its end, and leaves out most of what is hidden. What comes out equals one call for all queries
up to rounding; `PackedModel.ragged` turns this form off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

LEAST = 64
"""Queries per chunk, at least: smaller products run slower than those that they leave out."""

MOST = 8
"""Chunks per row, at most: backward, each adds to the gradient of all keys up to its end."""

Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""What queries `[B, A, T, D]`, keys and values `[B, K, S, D]` and a mask `[T, S]` give: `[B, A, T, D]`."""


class Chunk(NamedTuple):
    """The queries of one call.

    Attributes:
        rows: number of rows that reach it.
        first, last: position in each row of the first query, and of the query after the last one.
    """

    rows: int
    first: int
    last: int


@dataclass(frozen=True)
class Chunks:
    """Which queries share a call.

    Attributes:
        order: the index of each row, longest first.
        pad: for each padded slot of the rows in that order, its index among the packed tokens.
        parts: the calls.
        back: for each packed token its index among the outputs of all calls.
    """

    order: Int[Tensor, "B"]
    pad: Int[Tensor, "BT"]
    parts: tuple[Chunk, ...]
    back: Int[Tensor, "N"]


def chunk_size(longest: int) -> int:
    """Queries per chunk of rows of up to that many tokens."""
    return max(LEAST, -(-longest // MOST))


def chunks_of(lengths: Int[Tensor, "B"], pad: Int[Tensor, "BT"]) -> Chunks | None:
    """The chunks of rows; None where a single one has all queries.

    Args:
        lengths: tokens of each row.
        pad: for each padded slot its index among the packed tokens.
    """
    longest = len(pad) // len(lengths)
    if longest <= LEAST:
        return None
    size = chunk_size(longest)
    order = lengths.argsort(descending=True, stable=True)
    firsts = torch.arange(0, longest, size)
    lasts = (firsts + size).clamp(max=longest)
    reach = (lengths[:, None] > firsts).sum(0)
    starts = (reach * (lasts - firsts)).cumsum(0) - reach * (lasts - firsts)

    rank = order.argsort()
    row = torch.arange(len(lengths)).repeat_interleave(lengths)
    position = torch.arange(len(row)) - (lengths.cumsum(0) - lengths)[row]
    chunk = position // size
    back = starts[chunk] + rank[row] * (lasts - firsts)[chunk] + position % size
    parts = zip(reach.tolist(), firsts.tolist(), lasts.tolist(), strict=True)
    slots = pad.view(len(lengths), longest)[order].flatten()
    return Chunks(order, slots, tuple(Chunk(*part) for part in parts), back)


def attend_chunks(
    chunks: Chunks,
    attention: Attention,
    query: Float[Tensor, "B A T D"],
    key: Float[Tensor, "B K S D"],
    value: Float[Tensor, "B K S D"],
    mask: Shaped[Tensor, "T S"],
) -> Float[Tensor, "N A D"]:
    """What the packed tokens' queries make of the values.

    Args:
        query, key, value: rows in the order of `chunks`; the last `T` keys stand where the queries do.
        mask: what each query sees: nothing behind its own position. See `RowPass.mask`.
    """
    front = mask.shape[1] - mask.shape[0]
    found = []
    for rows, first, last in chunks.parts:
        keys = slice(front + last)
        out = attention(
            query[:rows, :, first:last], key[:rows, :, keys], value[:rows, :, keys], mask[first:last, keys]
        )
        found.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(found).index_select(0, chunks.back)
