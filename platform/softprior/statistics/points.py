"""Tokens of two or more tasks at one site, and tokens at similar positions.

Two tasks whose texts differ in length differ in position too, which a model writes into its activations;
`matched` takes that away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from softprior.seeding import numpy_generator

BINS = 20
"""Quantile bins of the positions of a task, or fewer for few tokens."""


@dataclass(frozen=True)
class Points:
    """Token vectors of one task at one site.

    Attributes:
        vectors: the activations.
        documents: the document of each token, any integers.
        positions: each token's position in its text.
    """

    vectors: Float[Tensor, "N D"]
    documents: Int[Tensor, "N"]
    positions: Int[Tensor, "N"]

    def take(self, indices: Int[np.ndarray, "M"]) -> Points:
        """Some of the tokens."""
        return Points(self.vectors[indices], self.documents[indices], self.positions[indices])


def matched(tasks: Sequence[Points], seed: int) -> list[Points]:
    """Equally many tokens of all tasks in each bin of positions; empty where they share no bin."""
    bins = position_bins([points.positions.numpy() for points in tasks])
    chosen = balanced(bins, numpy_generator(seed, "matched"))
    return [points.take(own) for points, own in zip(tasks, chosen, strict=True)]


def position_bins(positions: Sequence[Int[np.ndarray, "_"]], bins: int = BINS) -> list[Int[np.ndarray, "_"]]:
    """The bin of each task's positions, from 0, numbered alike in all tasks.

    Bins end at the quantiles of each task's own positions, all tasks' together: quantiles of the pooled
    positions would put most of a task of short texts into one bin.

    Args:
        bins: quantile bins per task, or fewer for few tokens: a bin without a token of some task is lost.
    """
    least = min(map(len, positions))
    if not least:
        return [np.zeros(len(own), np.int64) for own in positions]
    steps = np.linspace(0, 1, min(bins, max(1, least // 10)) + 1)
    edges = np.concatenate([np.quantile(own, steps) for own in positions])
    # A bin ends behind each task's last position: what lies beyond has nothing to be matched with.
    edges = np.unique(np.append(edges, [own.max() + 1 for own in positions]))
    return [np.searchsorted(edges, own, side="right") for own in positions]


def balanced(
    strata: Sequence[Int[np.ndarray, "_"]], generator: np.random.Generator
) -> list[Int[np.ndarray, "M"]]:
    """Indices of equally many of each task's tokens in each stratum, drawn at random."""
    chosen: list[list[np.ndarray]] = [[np.zeros(0, np.int64)] for _ in strata]
    for stratum in range(1 + max((int(own.max(initial=0)) for own in strata), default=0)):
        members = [np.flatnonzero(own == stratum) for own in strata]
        count = min(map(len, members))
        if count:
            for some, own in zip(chosen, members, strict=True):
                some.append(generator.choice(own, count, replace=False))
    return [np.sort(np.concatenate(some)) for some in chosen]
