"""Metrics of point sets in activation space: pure functions on tensors.

Float32 vectors go in; results are Python floats or float64 tensors. Every metric that is a distance
needs a null to be read against: the same on random tokens, or on the untrained sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

PART = 2**22
"""Most numbers of a table that are in float64 at once: 32 MB."""


def distance_moved(initial: Float[Tensor, "P D"], final: Float[Tensor, "P D"]) -> Float[Tensor, "P"]:
    """The Euclidean distance each vector has moved."""
    moved: Tensor = (final.double() - initial.double()).norm(dim=1)
    return moved


def reach(rate: float, schedule_sum: float, dimension: int) -> float:
    """How far a constant gradient carries a vector: rate × sum of the schedule's factors × sqrt(dimension).

    A yardstick that is known before the first step, not a bound. Gradients that change sign carry a vector
    less far. Those that grow carry it farther, as the second moment remembers small ones for longer: growing
    by a tenth with every step, 2.15 times as far in 200 steps. With the default betas no step is longer than
    7.3 times the rate.
    """
    return rate * schedule_sum * math.sqrt(dimension)


def quantile_among(values: Float[Tensor, "N"], reference: Float[Tensor, "M"]) -> Float[Tensor, "N"]:
    """Share of the reference that lies at or below each value, in [0, 1]."""
    ordered = reference.double().sort().values
    return torch.searchsorted(ordered, values.double(), right=True).double() / len(ordered)


def mean_pairwise_cosine(vectors: Float[Tensor, "P D"]) -> float:
    """Mean cosine over the pairs of different vectors; nan for a single one."""
    count = len(vectors)
    if count < 2:
        return math.nan
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    gram = unit @ unit.T
    return float((gram.sum() - gram.trace()) / (count * (count - 1)))


def participation_ratio(vectors: Float[Tensor, "P D"]) -> float:
    """Effective number of directions of the centred set: (sum of variances)^2 / sum of their squares.

    Between 1 and P - 1; nan where all vectors are equal.
    """
    values = torch.linalg.svdvals(vectors.double() - vectors.double().mean(0)) ** 2
    total = values.sum()
    return float(total**2 / (values**2).sum()) if float(total) > 0 else math.nan


def nearest(
    vectors: Float[Tensor, "P D"], table: Float[Tensor, "V D"], count: int = 1
) -> tuple[Float[Tensor, "P K"], Int[Tensor, "P K"]]:
    """Euclidean distances to the nearest rows of a table, and those rows' indices.

    The table is taken part by part: the vocabulary of a large model in float64 has gigabytes.
    """
    exact = vectors.double()
    indices = _highest(lambda part: -torch.cdist(exact, part), table, count)
    # cdist takes products, which cancel: a row far from the origin would be 1e-4 away from itself.
    return (exact[:, None] - table[indices].double()).norm(dim=2), indices


def aligned(
    vectors: Float[Tensor, "P D"], table: Float[Tensor, "V D"], count: int = 1, *, cosine: bool = False
) -> tuple[Float[Tensor, "P K"], Int[Tensor, "P K"]]:
    """Largest dot products (or cosines) with rows of a table, and these rows' indices; see `nearest`."""
    unit = torch.nn.functional.normalize

    def products(part: Tensor) -> Tensor:
        return unit(vectors.double(), dim=1) @ unit(part, dim=1).T if cosine else vectors.double() @ part.T

    indices = _highest(products, table, count)
    rows = table[indices].double()
    exact = vectors.double()[:, None]
    found: Tensor = torch.cosine_similarity(exact, rows, dim=2) if cosine else (exact * rows).sum(2)
    return found, indices


def _highest(
    score: Callable[[Tensor], Tensor], table: Float[Tensor, "V D"], count: int
) -> Int[Tensor, "P K"]:
    """Indices of the rows with the highest scores, the highest first.

    Args:
        score: of every vector with every row of a part of the table in float64.
    """
    rows = max(1, PART // table.shape[1])
    found, at = [], []
    for start in range(0, len(table), rows):
        part = score(table[start : start + rows].double())
        best = part.topk(min(count, part.shape[1]))
        found.append(best.values)
        at.append(best.indices + start)
    return torch.cat(at, 1).gather(1, torch.cat(found, 1).topk(count).indices)
