"""Gaussian kernels between tokens, summed by document, and MMD^2 as a product of those sums."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int


def gaussian_kernel(points: Float[np.ndarray, "N D"]) -> tuple[Float[np.ndarray, "N N"], float]:
    """exp(-d^2 / (2 sigma^2)) of all pairs, and sigma: the median distance of two points.

    Pairs at distance zero are left out of the median (repeated tokens are equal at `resid.0`); sigma and the
    kernel are nan where no two points differ.
    """
    exact = points.astype(np.float64)
    exact -= exact.mean(0)  # products cancel less
    squares = np.einsum("nd,nd->n", exact, exact)
    distances = exact @ exact.T  # squared, in place: at 4000 points a copy has 128 MB
    distances *= -2
    distances += squares[:, None]
    distances += squares
    # Equal points come out at rounding of their squares.
    distances[distances <= 1e-12 * squares.max(initial=0)] = 0
    np.fill_diagonal(distances, 0)
    different = distances[distances > 0]  # every pair twice, which leaves the median where it is
    bandwidth = math.nan
    if len(different):
        middle = len(different) // 2
        different.partition(middle)
        below = different[: max(middle, 1)].max()
        bandwidth = (math.sqrt(below) + math.sqrt(different[middle])) / 2
    distances *= -1 / (2 * bandwidth**2)
    return np.exp(distances, out=distances), bandwidth


def by_document(kernel: Float[np.ndarray, "N N"], index: Int[np.ndarray, "N"]) -> Float[np.ndarray, "G G"]:
    """Sums of the kernel over the tokens of each pair of documents."""
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(index.max() + 1))
    rows = np.add.reduceat(kernel[order], starts, axis=0)
    return np.add.reduceat(rows[:, order], starts, axis=1)


def mmd2(
    sums: Float[np.ndarray, "G G"],
    sizes: Float[np.ndarray, "G"],
    first: Float[np.ndarray, "G R"],
    second: Float[np.ndarray, "G R"],
) -> Float[np.ndarray, "R"]:
    """Unbiased MMD^2 between two groups of documents, R times; pairs within a document are left out.

    Gretton et al. 2012, eq. 3, where every document has one token: may be negative, at most 2.

    Args:
        sums: of the kernel over the tokens of each pair of documents.
        sizes: tokens of each document.
        first: how often each document is in the first group. Copies of a document are one document.
        second: the same of the second group.
    """
    to_first, to_second = sums @ first, sums @ second

    def within(weights: np.ndarray, products: np.ndarray) -> np.ndarray:
        total = (weights * products).sum(0) - (weights**2 * sums.diagonal()[:, None]).sum(0)
        pairs = (weights * sizes[:, None]).sum(0) ** 2 - (weights**2 * sizes[:, None] ** 2).sum(0)
        # Without a pair of documents the total is rounding, and over zero it would be infinite.
        mean: np.ndarray = np.where(pairs > 0, total / pairs, np.nan)
        return mean

    with np.errstate(invalid="ignore", divide="ignore"):  # groups of one document: nan
        across = (first * to_second).sum(0) / ((sizes @ first) * (sizes @ second))
        squared: np.ndarray = within(first, to_first) + within(second, to_second) - 2 * across
        return squared
