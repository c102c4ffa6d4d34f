"""Batches and prompts that hosts are checked with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from softprior.models.protocol import FrozenLM, ModelInfo
from softprior.prompt import Batch, Place, Prompt, Row, collate

LENGTHS = (9, 4, 12, 1, 7)
"""Rows of unequal length, in no order, one without room for a label."""

MAX_NEW = 6
"""Most tokens of a generated answer."""

FEW = ("none", "keep and cut at 0", "cut late", "prefix")
"""Example prompts of a decoder: none, vectors at every kind of place, and at one late block alone."""


def example_batch(info: ModelInfo, seed: int = 0) -> Batch:
    """Random rows of `LENGTHS`: about half of the tokens are labels, about half of those are scored.

    Where an encoder reads what stands before the first label, no label is in a row's first half.
    """
    generator = torch.Generator().manual_seed(seed)

    def coins(count: int) -> list[bool]:
        return [False, *(torch.rand(count - 1, generator=generator) < 0.5).tolist()]

    rows = []
    for index, length in enumerate(LENGTHS):
        tokens = torch.randint(info.vocabulary, (length,), generator=generator).tolist()
        labels = coins(length)
        labels[-1] = length > 1
        if info.stack == "encoder":
            labels[: length // 2] = [False] * (length // 2)
        scored = [a and b for a, b in zip(labels, coins(length), strict=True)]
        rows.append(Row(str(index), tokens, labels, scored))
    return collate(rows).weighted(torch.linspace(0.5, 1.5, len(rows)))


def example_prompts(host: FrozenLM, seed: int = 0) -> dict[str, Prompt]:
    """Prompts of every shape a host must take, of the size of its embeddings; `none` is empty."""
    info = host.info()
    size = host.embed(torch.arange(info.vocabulary)).square().mean().sqrt().cpu()
    generator = torch.Generator().manual_seed(seed)
    shapes = _in_front_of_the_encoder() if info.stack == "encoder" else _everywhere(info.blocks)
    return {
        name: {
            place: size * torch.randn(count, host.width(place), generator=generator)
            for place, count in shape.items()
        }
        for name, shape in shapes.items()
    }


def few_prompts(host: FrozenLM, seed: int = 0) -> dict[str, Prompt]:
    """Of the example prompts of a decoder those of `FEW`, for checks that need many passes for each."""
    prompts = example_prompts(host, seed)
    return prompts if host.info().stack == "encoder" else {name: prompts[name] for name in FEW}


def _in_front_of_the_encoder() -> dict[str, dict[Place, int]]:
    front = Place(0, stack="encoder")
    return {"none": {}, "soft": {front: 4}, "soft, one vector": {front: 1}}


def _everywhere(blocks: int) -> dict[str, dict[Place, int]]:
    top = blocks - 1

    def cut(block: int) -> Place:
        return Place(block, after="cut")

    prefix = {Place(block, kind): 3 for block in range(blocks) for kind in ("key", "value")}
    return {
        "none": {},
        "soft": {Place(0): 4},
        "deep": {cut(0): 4, cut(top - 2): 4, cut(top - 1): 4, cut(top): 4},
        "keep, then cut": {Place(0): 3, cut(top - 1): 5, cut(top): 2},
        "cut late": {cut(top): 4},
        "keep and cut at 0": {Place(0): 2, cut(0): 3, cut(top - 1): 1},
        "prefix": prefix,
        "prefix of some blocks": {p: 4 for p in prefix if p.block in (1, top)},
    }


def texts(batch: Batch) -> list[list[int]]:
    """The real tokens of each row."""
    return [
        tokens[:length] for tokens, length in zip(batch.tokens.tolist(), batch.lengths.tolist(), strict=True)
    ]


def firsts(batch: Batch) -> list[int]:
    """Position of each row's first label; the row's length where it has none."""
    return [
        labels.index(True) if any(labels) else length
        for labels, length in zip(batch.labels.tolist(), batch.lengths.tolist(), strict=True)
    ]


def unlabelled(batch: Batch) -> Batch:
    """The same rows without labels, as they are for generation."""
    nothing = torch.zeros_like(batch.labels)
    return replace(batch, labels=nothing, scored=nothing)


def plain(ids: Int[Tensor, "T"]) -> Batch:
    """A batch of one row that is read and not scored."""
    tokens = ids.tolist()
    return collate([Row("text", tokens, [False] * len(tokens), [False] * len(tokens))])


def padded(batch: Batch, columns: int, fill: int) -> Batch:
    """The same rows with more pad columns, and `fill` in every pad."""
    none = torch.zeros(len(batch), columns, dtype=torch.bool)
    tokens = torch.cat([batch.tokens, none.long()], 1)
    pads = torch.arange(tokens.shape[1])[None] >= batch.lengths[:, None]
    return replace(
        batch,
        tokens=tokens.masked_fill(pads, fill),
        labels=torch.cat([batch.labels, none], 1),
        scored=torch.cat([batch.scored, none], 1),
    )


def picked(batch: Batch, rows: Sequence[int], *, narrow: bool = True) -> Batch:
    """Some rows in some order, the pad columns none of them needs left out or not."""
    lengths = batch.lengths[rows]
    width = int(lengths.max()) if narrow else batch.tokens.shape[1]
    return Batch(
        ids=tuple(batch.ids[row] for row in rows),
        tokens=batch.tokens[rows, :width],
        lengths=lengths,
        labels=batch.labels[rows, :width],
        scored=batch.scored[rows, :width],
        weights=batch.weights[rows],
    )
