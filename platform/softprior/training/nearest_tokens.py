"""The tokens nearest to a prompt's vectors, beside those of vectors that know nothing of the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.results.probed import NearestTokens
from softprior.statistics.geometry import aligned, nearest

Near = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""What is nearest to vectors in a table: numbers [P K], and indices [P K]."""

METRICS: Mapping[str, Near] = {"l2": nearest, "cosine": partial(aligned, cosine=True), "dot": aligned}


def nearest_tokens(
    initial: Float[Tensor, "P H"],
    final: Float[Tensor, "P H"],
    table: Float[Tensor, "V H"],
    ids: Sequence[int],
    draws: Sequence[Int[Tensor, "P"]],
) -> NearestTokens:
    """In each metric the nearest tokens of trained vectors, of the untrained sample and of random tokens.

    Args:
        initial, final: vectors beside embeddings, before and after training.
        table: embeddings of the vocabulary.
        ids: of its tokens.
        draws: rows of random tokens.
    """
    found: dict[str, Any] = {}
    for name, near in METRICS.items():
        (values, own), (before, start) = near(final, table, 1), near(initial, table, 1)
        found |= {
            name: float(values.mean()),
            f"untrained_{name}": float(before.mean()),
            f"random_{name}": sum(_of_others(near, rows, table) for rows in draws) / len(draws),
            f"same_{name}": float((own == start).double().mean()),
            f"tokens_{name}": tuple(ids[i] for i in own[:, 0].tolist()),
        }
    return NearestTokens(**found)


def _of_others(near: Near, rows: Int[Tensor, "P"], table: Float[Tensor, "V H"]) -> float:
    """The mean number of rows of a table with the nearest row that is not the same one."""
    values, found = near(table[rows], table, min(2, len(table)))
    own = found[:, 0] == rows.to(found)
    return float(torch.where(own, values[:, -1], values[:, 0]).mean())
