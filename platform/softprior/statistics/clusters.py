"""Do the tokens of two tasks form clusters of their own: kernel distance between tasks, by document.

Two tasks whose texts differ in length differ in position too, which a model writes into its activations;
`matched` takes that away first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from softprior.seeding import numpy_generator
from softprior.statistics.documents import interval, resampled

DOCUMENTS = 4
"""Documents a task must have: two in each half, since only pairs of different documents count."""


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


def matched(a: Points, b: Points, seed: int, bins: int = 20) -> tuple[Points, Points]:
    """Equally many tokens of both tasks in each bin of positions; empty where the tasks share no bin.

    Bins end at the quantiles of each task's own positions, both tasks' together: quantiles of the pooled
    positions would put most of a task of short texts into one bin.

    Args:
        bins: quantile bins a task.
    """
    positions = [points.positions.numpy() for points in (a, b)]
    if not len(positions[0]) or not len(positions[1]):
        return a.take(np.empty(0, np.int64)), b.take(np.empty(0, np.int64))
    edges = np.concatenate([np.quantile(own, np.linspace(0, 1, bins + 1)) for own in positions])
    # A bin ends behind each task's last position: what lies beyond has nothing to be matched with.
    edges = np.unique(np.append(edges, [own.max() + 1 for own in positions]))
    places = [np.searchsorted(edges, own, side="right") for own in positions]
    generator = numpy_generator(seed, "matched")
    chosen: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for place in range(len(edges) + 1):
        members = [np.flatnonzero(own == place) for own in places]
        count = min(map(len, members))
        for some, own in zip(chosen, members, strict=True):
            some.append(generator.choice(own, count, replace=False))
    one, other = (np.sort(np.concatenate(some)) for some in chosen)
    return a.take(one), b.take(other)


def mmd2(x: Float[Tensor, "N D"], y: Float[Tensor, "M D"], bandwidth: float | None = None) -> float:
    """Unbiased MMD^2 with a Gaussian kernel (Gretton et al. 2012, eq. 3); may be negative, at most 2.

    Args:
        bandwidth: sigma of exp(-d^2 / (2 sigma^2)); None takes the median Euclidean distance between the
            pooled points, pairs at distance zero left out (repeated tokens are equal at `resid.0`).

    Returns:
        MMD^2; nan with fewer than two points on a side, or without two that differ.
    """
    kernel, _ = _kernel(np.concatenate([x.numpy(), y.numpy()]), bandwidth)
    sizes = np.ones(len(kernel))
    first = (np.arange(len(kernel)) < len(x)).astype(np.float64)[:, None]
    return float(_mmd2(kernel, sizes, first, 1 - first)[0])


@dataclass(frozen=True)
class Separation:
    """How far apart two tasks are, next to halves of one task.

    Only pairs of tokens of different documents enter the terms within a task: tokens of one text are more
    alike than tokens of two, and would set halves of one task apart by that alone. With one token a
    document `between` is `mmd2`. The mean of this unbiased MMD^2 over all halvings of a task is zero, so
    `ratio` divides by its root mean square: how far apart two halves of one task typically appear. Halves
    have half the documents, so that is more noise than `between` has, and the ratio errs to the low side.

    Attributes:
        tokens: of each task.
        documents: of each task.
        note: why numbers are nan; empty if none is.
        between: unbiased MMD^2 of the two tasks, at most 2; the size of the effect.
        low: end of its 95% percentile interval over documents.
        high: the other end.
        within: mean MMD^2 of the halvings of both tasks; near zero.
        scale: root mean square of the same.
        excess: (between - within) / scale.
        ratio: between / scale: 1 is as far apart as halves of one task typically appear; may be negative.
        ratio_low: low / scale. The scale is held: it is a unit, not an estimate of interest.
        ratio_high: high / scale.
        p: share of permutations of the labels of documents (the observed one included) that reach `between`.
        bandwidth: of the kernel: median distance between the pooled tokens, see `mmd2`.
    """

    tokens: tuple[int, int]
    documents: tuple[int, int]
    note: str
    between: float = math.nan
    low: float = math.nan
    high: float = math.nan
    within: float = math.nan
    scale: float = math.nan
    excess: float = math.nan
    ratio: float = math.nan
    ratio_low: float = math.nan
    ratio_high: float = math.nan
    p: float = math.nan
    bandwidth: float = math.nan


def separation(
    a: Points, b: Points, seed: int, permutations: int = 200, halvings: int = 50, resamples: int = 500
) -> Separation:
    """MMD^2 between tasks over that between random halves of one task; call it on `matched` points.

    The kernel matrix is computed once, in float64, and summed over pairs of documents: the null, the
    halves and the bootstrap are products of those sums with weights of documents. A document number in
    both tasks counts as two texts.

    Args:
        permutations: draws of the null; p is at least 1 / (permutations + 1).
        halvings: random halvings of each task, by document.
        resamples: bootstrap samples of each task's documents.
    """
    names_a, index_a = np.unique(a.documents.numpy(), return_inverse=True)
    names_b, index_b = np.unique(b.documents.numpy(), return_inverse=True)
    tokens, documents = (len(index_a), len(index_b)), (len(names_a), len(names_b))
    if min(documents) < DOCUMENTS:
        note = f"each task needs {DOCUMENTS} documents, and there are {documents[0]} and {documents[1]}"
        return Separation(tokens, documents, note)
    kernel, bandwidth = _kernel(np.concatenate([a.vectors.numpy(), b.vectors.numpy()]), None)
    if math.isnan(bandwidth):
        return Separation(tokens, documents, "all vectors are equal")
    index = np.concatenate([index_a, index_b + len(names_a)])
    sums, sizes = _by_document(kernel, index), np.bincount(index).astype(np.float64)
    del kernel

    is_a = (np.arange(sum(documents)) < documents[0]).astype(np.float64)[:, None]
    between = float(_mmd2(sums, sizes, is_a, 1 - is_a)[0])
    halves = []
    for name, members in (("a", is_a), ("b", 1 - is_a)):
        generator = numpy_generator(seed, "halves", name)
        own = np.flatnonzero(members)
        first = np.zeros((len(sizes), halvings))
        for column in first.T:
            column[generator.permutation(own)[: len(own) // 2]] = 1
        halves.append(_mmd2(sums, sizes, first, members - first))
    within = float(np.mean(halves))
    scale = float(np.sqrt(np.mean(np.square(halves))))

    generator = numpy_generator(seed, "permutations")
    labels = np.stack([generator.permutation(is_a[:, 0]) for _ in range(permutations)], axis=1)
    null = _mmd2(sums, sizes, labels, 1 - labels)
    # Sums of the same kernels in another order differ by rounding.
    p = (1 + int((null >= between - 1e-12).sum())) / (1 + permutations)

    generator = numpy_generator(seed, "bootstrap")
    one, other = (resampled(count, resamples, generator) for count in documents)
    first = np.concatenate([one, np.zeros_like(one, shape=(documents[1], resamples))])
    second = np.concatenate([np.zeros_like(other, shape=(documents[0], resamples)), other])
    low, high = interval(_mmd2(sums, sizes, first, second))

    # Kernels are at most 1 and exact to 1e-15; a scale below is rounding, and a ratio would be noise.
    usable = scale if scale > 1e-12 else math.nan
    return Separation(
        tokens,
        documents,
        note="halves of one task do not differ, so there is no ratio" if math.isnan(usable) else "",
        between=between,
        low=low,
        high=high,
        within=within,
        scale=scale,
        excess=(between - within) / usable,
        ratio=between / usable,
        ratio_low=low / usable,
        ratio_high=high / usable,
        p=p,
        bandwidth=bandwidth,
    )


def _kernel(
    points: Float[np.ndarray, "N D"], bandwidth: float | None
) -> tuple[Float[np.ndarray, "N N"], float]:
    """The Gaussian kernel of all pairs and its bandwidth (nan where no two points differ)."""
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
    if bandwidth is None:
        different = distances[distances > 0]  # every pair twice, which leaves the median where it is
        if len(different):
            middle = len(different) // 2
            different.partition(middle)
            below = different[: max(middle, 1)].max()
            bandwidth = (math.sqrt(below) + math.sqrt(different[middle])) / 2
        else:
            bandwidth = math.nan
    distances *= -1 / (2 * bandwidth**2)
    return np.exp(distances, out=distances), bandwidth


def _by_document(kernel: Float[np.ndarray, "N N"], index: Int[np.ndarray, "N"]) -> Float[np.ndarray, "G G"]:
    """Sums of the kernel over the tokens of each pair of documents."""
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(index.max() + 1))
    rows = np.add.reduceat(kernel[order], starts, axis=0)
    return np.add.reduceat(rows[:, order], starts, axis=1)


def _mmd2(
    sums: Float[np.ndarray, "G G"],
    sizes: Float[np.ndarray, "G"],
    first: Float[np.ndarray, "G R"],
    second: Float[np.ndarray, "G R"],
) -> Float[np.ndarray, "R"]:
    """Unbiased MMD^2 between two groups of documents, R times; pairs within a document are left out.

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
        return total / pairs

    with np.errstate(invalid="ignore", divide="ignore"):  # groups of one document: nan
        across = (first * to_second).sum(0) / ((sizes @ first) * (sizes @ second))
        return within(first, to_first) + within(second, to_second) - 2 * across
