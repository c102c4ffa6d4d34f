"""The document as the unit: held-out documents, bootstrap samples of them and intervals.

Tokens of one text are not independent, so splits, resamples and permutations move whole documents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import norm, t

COVERAGE = 0.95
"""Level of every interval."""

RESAMPLES = 1999
"""Bootstrap samples of an interval: with few documents its ends lie far out."""

CELLS = 2**24
"""Weights of documents that a statistic gets at once: for 20,000 documents all of them would take 3.5 GB. Two
tasks of 1,000 documents take one part."""

LEAST = 4
"""Documents that an interval needs: resamples of fewer have a handful of values, and cover far less."""

ROUNDING = 1e-12
"""Relative to the largest of them, or to one: equal numbers differ by less."""

Statistic = Callable[[Float[np.ndarray, "G R"]], Float[np.ndarray, "R"]]
"""A number of R weighted sets of documents, by how often each document is in each set."""


def held_out(
    documents: Int[np.ndarray, "N"], share: float, generator: np.random.Generator
) -> Bool[np.ndarray, "N"]:
    """Which tokens belong to the held-out documents.

    Args:
        documents: the document of each token.
        share: of the documents that are held out, rounded down, but at least two.
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


def bootstrap(
    statistic: Statistic,
    groups: Int[np.ndarray, "G"],
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """The BCa interval (Efron 1987) of a statistic of documents, widened for few of them.

    BCa corrects the percentile interval for bias and skewness, not for its being too narrow where documents
    are few: a resample's variance is (n - 1) / n of the sample's, and a normal quantile is not a t quantile.
    Hesterberg's (2015, "What teachers should know about the bootstrap") expanded level corrects that.

    Args:
        groups: the group of each document (its task): each is resampled on its own.

    Returns:
        Both ends; nan where a group has fewer than `LEAST` documents or the statistic is not finite.
    """
    counts = np.unique(groups, return_counts=True)[1]
    if not len(counts) or counts.min() < LEAST:
        return math.nan, math.nan
    values = np.concatenate([statistic(weights) for weights in _weights(groups, resamples, generator)])
    observed, drawn, without = values[0], values[1 : 1 + resamples], values[1 + resamples :]
    return bca(float(observed), drawn, [without[groups == group] for group in np.unique(groups)])


def _weights(
    groups: Int[np.ndarray, "G"], resamples: int, generator: np.random.Generator
) -> Iterator[Float[np.ndarray, "G R"]]:
    """How often each document counts: in the sample, in each resample, and without one after another.

    All at once, or in parts of at most `CELLS` numbers.
    """
    total, width = 1 + resamples + len(groups), max(1, CELLS // len(groups))
    for start in range(0, total, width):
        columns = np.arange(start, min(start + width, total))
        drawn = np.flatnonzero((columns > 0) & (columns <= resamples))
        weights = np.ones((len(groups), len(columns)))
        for group in np.unique(groups):
            own = np.flatnonzero(groups == group)
            weights[np.ix_(own, drawn)] = resampled(len(own), len(drawn), generator)
        lacking = np.flatnonzero(columns > resamples)
        weights[columns[lacking] - 1 - resamples, lacking] = 0
        yield weights


def bca(
    observed: float,
    drawn: Float[np.ndarray, "S"],
    without: list[Float[np.ndarray, "_"]],
    expanded: bool = True,
) -> tuple[float, float]:
    """The interval from what `bootstrap` computes; degenerate resamples, which are nan, are left out.

    Args:
        without: by group, the statistic without each of its documents.
        expanded: at the level of the smallest group; otherwise plain BCa, which `scipy.stats.bootstrap` has.
    """
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn) or math.isnan(observed):
        return math.nan, math.nan
    below = ((drawn < observed).sum() + (drawn <= observed).sum()) / (2 * len(drawn))
    # Where no resample lies on one side there is no more to say than that it is at the end of them.
    bias = float(norm.ppf(np.clip(below, 0.5 / len(drawn), 1 - 0.5 / len(drawn))))
    third = second = 0.0
    for values in without:
        known = values[~np.isnan(values)]
        influence = (len(known) - 1) * (known.mean() - known) if len(known) else known
        third += float((influence**3).sum()) / max(len(known), 1) ** 3
        second += float((influence**2).sum()) / max(len(known), 1) ** 2
    acceleration = third / (6 * second**1.5) if second > 0 else 0.0
    tail = expanded_level(min(map(len, without))) if expanded else (1 - COVERAGE) / 2
    ends = bias + norm.ppf([tail, 1 - tail])
    low, high = np.quantile(drawn, norm.cdf(bias + ends / (1 - acceleration * ends)))
    return float(low), float(high)


def expanded_level(count: int) -> float:
    """Share beyond each end of resamples at which the interval of a mean of `count` is as wide as t's."""
    quantile = float(t.ppf((1 - COVERAGE) / 2, count - 1))
    return float(norm.cdf(math.sqrt(count / (count - 1)) * quantile))


def mean_interval(
    values: Float[np.ndarray, "G"], generator: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The studentised bootstrap interval of a mean over documents (Efron and Tibshirani 1993, 12.5).

    Its length is that of resampled t values and not of resampled means, so that it covers with few documents
    too. Resamples of one document's copies have no t value, and are left out.

    Returns:
        Both ends; nan for fewer than `LEAST` documents, and for equal ones, whose spread is not known: an
        interval of no width would claim a certainty that nobody has.
    """
    count, mean = len(values), values.mean()
    if count < LEAST or np.ptp(values) <= ROUNDING * max(1.0, float(np.abs(values).max())):
        return math.nan, math.nan
    weights = resampled(count, resamples, generator)
    centred = values - mean
    means = centred @ weights / count
    squares = np.maximum(centred**2 @ weights / count - means**2, 0)
    error = centred.std(ddof=1) / math.sqrt(count)
    errors = np.sqrt(squares / (count - 1))
    known = errors > 1e-9 * error
    high, low = np.quantile(means[known] / errors[known], [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(mean - low * error), float(mean - high * error)
