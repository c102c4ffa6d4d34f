"""The document as the unit: held-out documents and bootstrap samples of them.

Tokens of one text are not independent, so splits, resamples and permutations move whole documents.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

COVERAGE = 0.95
"""Of every interval."""


def held_out(
    documents: Int[np.ndarray, "N"], share: float, generator: np.random.Generator
) -> Bool[np.ndarray, "N"]:
    """Which tokens belong to the held-out documents.

    Args:
        documents: the document of each token.
        share: of the documents that are held out, rounded down, but two at least.
    """
    names = np.unique(documents)
    count = max(2, int(share * len(names)))
    return np.isin(documents, generator.permutation(names)[:count])


def one_of_each(documents: Int[np.ndarray, "N"], generator: np.random.Generator) -> Int[np.ndarray, "G"]:
    """Indices of one token of each document, drawn at random, in ascending order."""
    order = generator.permutation(len(documents))
    _, first = np.unique(documents[order], return_index=True)
    chosen: Int[np.ndarray, "G"] = np.sort(order[first])
    return chosen


def resampled(count: int, samples: int, generator: np.random.Generator) -> Float[np.ndarray, "N S"]:
    """How often each of `count` documents is in each of `samples` bootstrap samples."""
    return generator.multinomial(count, np.full(count, 1 / count), size=samples).T.astype(np.float64)


def interval(values: Float[np.ndarray, "S"]) -> tuple[float, float]:
    """The central percentile interval of bootstrap values; nans (degenerate resamples) are left out."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)
