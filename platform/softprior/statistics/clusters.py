"""Whether the tokens of two tasks form separate clusters: kernel distance between tasks, by document.

This module measures sizes of effects; whether tasks differ at all is tested in `swaps`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np
from jaxtyping import Float

from softprior.results.numbers import Number, Numbers
from softprior.seeding import numpy_generator
from softprior.statistics.documents import RESAMPLES, bca, bootstrap, resampled
from softprior.statistics.gaussian_kernel import by_document, gaussian_kernel, mmd2
from softprior.statistics.points import Points, matched

DOCUMENTS = 4
"""Documents a task needs: two in each half, since only pairs of different documents count."""


class Separation(Numbers):
    """How far apart two tasks are, next to halves of one task.

    Only pairs of tokens of different documents enter the terms within a task: tokens of one text are more
    alike than tokens of two, and would set halves of one task apart by that alone.

    `between` is the size of the effect. The mean of this unbiased MMD^2 over all halvings of a task is zero
    where its documents have equally many tokens, so `ratio` divides by its root mean square: how far apart
    two halves of one task typically appear. That is noise, which shrinks with the number of documents, and
    the ratio grows with it: it says how well the sample can tell the tasks apart, not how far apart they are.

    Attributes:
        tokens: of each task.
        documents: of each task.
        note: why numbers are None; empty if none is.
        between: unbiased MMD^2 of the two tasks, at most 2.
        low: end of its 95% interval over documents (`bootstrap`). Near MMD^2 = 0 the statistic is degenerate:
            its distribution there is not that of its resamples, and whether the interval contains zero
            decides nothing.
        high: the other end.
        within: mean MMD^2 of the halvings of both tasks; may not be near zero where documents have
            different numbers of tokens.
        scale: root mean square of the same.
        excess: (between - within) / scale.
        ratio: between / scale: 1 is as far apart as halves of one task typically appear; may be negative.
        ratio_low: low / scale. The scale is held: it is a unit, not an estimate of interest.
        ratio_high: high / scale.
        bandwidth: of the kernel, see `gaussian_kernel`.
    """

    tokens: tuple[int, int]
    documents: tuple[int, int]
    note: str
    between: Number = None
    low: Number = None
    high: Number = None
    within: Number = None
    scale: Number = None
    excess: Number = None
    ratio: Number = None
    ratio_low: Number = None
    ratio_high: Number = None
    bandwidth: Number = None


def separation(a: Points, b: Points, seed: int, halvings: int = 50, resamples: int = RESAMPLES) -> Separation:
    """MMD^2 between tasks over that between random halves of one task; call it on `matched` points.

    The kernel matrix is computed once, in float64, and summed over pairs of documents: the halves and the
    bootstrap are products of those sums with weights of documents. A document number in both tasks counts
    as two texts.

    Args:
        halvings: random halvings of each task, by document.
        resamples: bootstrap samples of each task's documents.
    """
    names_a, index_a = np.unique(a.documents.numpy(), return_inverse=True)
    names_b, index_b = np.unique(b.documents.numpy(), return_inverse=True)
    tokens, documents = (len(index_a), len(index_b)), (len(names_a), len(names_b))
    if min(documents) < DOCUMENTS:
        note = f"each task needs {DOCUMENTS} documents, but there are {documents[0]} and {documents[1]}"
        return Separation(tokens=tokens, documents=documents, note=note)
    kernel, bandwidth = gaussian_kernel(np.concatenate([a.vectors.numpy(), b.vectors.numpy()]))
    if math.isnan(bandwidth):
        return Separation(tokens=tokens, documents=documents, note="all vectors are equal")
    index = np.concatenate([index_a, index_b + len(names_a)])
    sums, sizes = by_document(kernel, index), np.bincount(index).astype(np.float64)
    del kernel

    is_a = (np.arange(sum(documents)) < documents[0]).astype(np.float64)[:, None]
    between = float(mmd2(sums, sizes, is_a, 1 - is_a)[0])
    halves = []
    for name, members in (("a", is_a), ("b", 1 - is_a)):
        generator = numpy_generator(seed, "halves", name)
        mine = np.flatnonzero(members)
        first = np.zeros((len(sizes), halvings))
        for column in first.T:
            column[generator.permutation(mine)[: len(mine) // 2]] = 1
        halves.append(mmd2(sums, sizes, first, members - first))
    within = float(np.mean(halves))
    scale = float(np.sqrt(np.mean(np.square(halves))))

    def resampled_between(weights: Float[np.ndarray, "G R"]) -> Float[np.ndarray, "R"]:
        return mmd2(sums, sizes, weights * is_a, weights * (1 - is_a))

    groups = is_a[:, 0].astype(np.int64)
    low, high = bootstrap(resampled_between, groups, numpy_generator(seed, "bootstrap"), resamples)

    # Kernels are at most 1 and exact to 1e-15; a scale below is rounding, and a ratio would be noise.
    usable = scale if scale > 1e-12 else math.nan
    return Separation(
        tokens=tokens,
        documents=documents,
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
        bandwidth=bandwidth,
    )


class NearestTasks(Numbers):
    """Which two of three or more tasks are nearest, by MMD^2 of one kernel on tokens at like positions.

    Attributes:
        tokens: of each task.
        pairs: of tasks, "a / b".
        between: unbiased MMD^2 of each pair.
        nearest: the pair with the smallest.
        margin: how much larger the next one's is.
        low: end of its 95% interval, documents of all tasks resampled together (`bca`).
        high: the other end.
        p: twice the share of resamples in which another pair is as near, the largest over the other pairs:
            two pairs that are equally near are told apart no more often than p says. Where all pairs are
            near zero the resamples do not follow the distribution of the differences, see `Separation.low`.
        note: why numbers are None; empty if none is.
    """

    tokens: int
    pairs: tuple[str, ...]
    between: tuple[float, ...] = ()
    nearest: str = ""
    margin: Number = None
    low: Number = None
    high: Number = None
    p: Number = None
    note: str = ""


def nearest_tasks(
    tasks: Mapping[str, Points], seed: int, resamples: int = 2000, most: int = 1000
) -> NearestTasks:
    """Compares the distances of all pairs of tasks; matches positions of all tasks at once.

    Args:
        tasks: three or more.
        resamples: bootstrap samples of each task's documents; p is at least 2 / (resamples + 1).
        most: tokens of each task; the kernel matrix has their square.
    """
    generator = numpy_generator(seed, "nearest")
    points = matched(list(tasks.values()), seed)
    tokens = min(most, len(points[0].vectors))
    points = [own.take(generator.permutation(len(own.vectors))[:tokens]) for own in points]
    pairs = list(combinations(range(len(points)), 2))
    names = tuple(" / ".join(both) for both in combinations(tasks, 2))
    indices = [np.unique(own.documents.numpy(), return_inverse=True)[1] for own in points]
    documents = [int(index.max(initial=-1)) + 1 for index in indices]
    if min(documents) < DOCUMENTS:
        note = f"each task needs {DOCUMENTS} documents at the positions of all, but one has {min(documents)}"
        return NearestTasks(tokens=tokens, pairs=names, note=note)
    kernel, bandwidth = gaussian_kernel(np.concatenate([own.vectors.numpy() for own in points]))
    if math.isnan(bandwidth):
        return NearestTasks(tokens=tokens, pairs=names, note="all vectors are equal")
    starts = np.concatenate([[0], np.cumsum(documents)])
    index = np.concatenate([own + start for own, start in zip(indices, starts, strict=False)])
    sums, sizes = by_document(kernel, index), np.bincount(index).astype(np.float64)
    # The documents as they are, then the resamples, then all but one.
    weights = np.zeros((len(points), len(sizes), 1 + resamples + len(sizes)))
    drawn, without = slice(1, 1 + resamples), slice(1 + resamples, None)
    for own, count, start in zip(weights, documents, starts, strict=False):
        own[start : start + count] = 1
        own[start : start + count, drawn] = resampled(count, resamples, generator)
        own[start : start + count, without] -= np.eye(len(sizes))[start : start + count]
    between = np.stack([mmd2(sums, sizes, weights[a], weights[b]) for a, b in pairs])
    least = int(between[:, 0].argmin())
    farther = np.delete(between, least, axis=0) - between[least]
    following = farther[farther[:, 0].argmin()]
    low, high = bca(float(following[0]), following[drawn], np.split(following[without], starts[1:-1]))
    reached = (1 + (~(farther[:, drawn] > 0)).sum(1).max()) / (1 + resamples)
    return NearestTasks(
        tokens=tokens,
        pairs=names,
        between=tuple(between[:, 0].tolist()),
        nearest=names[least],
        margin=float(following[0]),
        low=low,
        high=high,
        p=float(min(1.0, 2 * reached)),
    )
