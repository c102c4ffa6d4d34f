"""What the variance between seeds is made of: the prior's draw, the data's order, and rounding.

A seed gives both the draw and the order. A reordered trial has the draw of its original and an order of its
own, so half the mean squared difference of such pairs is what the order adds, together with rounding, and the
rest of the variance between seeds is the draw's. What draw and order only do together counts as the order's,
as a pair has one draw.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from analysis.inference.intervals import quantile_of_t
from analysis.inference.values import CONFIDENCE, Interval

SEEDS, PAIRS = 4, 3
"""Fewest seeds, and seeds with pairs, for an interval: two independent differences are left when one is out.

With one left, logarithms of variances move so far that ends are thousands apart.
"""

NOWHERE = Interval(low=np.nan, high=np.nan)


@dataclass(frozen=True, kw_only=True)
class Component:
    """A variance, in squared units of the numbers.

    Attributes:
        estimate: unbiased, and so below zero at times.
        interval: for other seeds; its ends are not below zero, and nan where seeds are too few.
    """

    estimate: float
    interval: Interval

    @property
    def value(self) -> float:
        """The estimate, or zero if it is below."""
        return max(0.0, self.estimate)


@dataclass(frozen=True, kw_only=True)
class Split:
    """The variance between seeds and its parts, whose estimates sum to it. Of several settings, their means.

    Attributes:
        total: between seeds.
        draw: of the prior's draw.
        order: of the data's order, without rounding.
        rounding: of training amplifying rounding, which is taken as known; None if it was not measured, and
            is then a part of `order`.
        seeds: most seeds of a setting.
        pairs: of a trial and its reordered repetition.
    """

    total: Component
    draw: Component
    order: Component
    rounding: float | None
    seeds: int
    pairs: int


def split(
    results: Float[np.ndarray, "K S"], reordered: Float[np.ndarray, "K S"], rounding: float | None = None
) -> Split | None:
    """The parts of the variance between seeds; None without a setting that has two seeds and a pair.

    Intervals come from leaving out each seed in turn, in all settings at once, as their trials share random
    numbers. For `total` and `order` the logarithm is jackknifed (Miller 1974): the plain jackknife of a
    variance covers too little. The error is at least that of normal numbers: where draws take two values, as
    in trials that solve a task or do not, leaving out a seed may change next to nothing. `draw` is a
    difference of two estimates that share the original trials; its ends are those of Zou and Donner
    (Statistics in Medicine 27, 2008), from the two intervals and the correlation of the two under the
    jackknife.

    Args:
        results: by setting and seed; nan for seeds that a setting lacks.
        reordered: of the reordered repetitions; nan where there is none.
        rounding: variance that rounding alone gives one result.
    """
    whole = (np.isfinite(results).sum(1) > 1) & np.isfinite(results - reordered).any(1)
    results, reordered = results[whole], reordered[whole]
    if not len(results):
        return None
    known, paired = np.isfinite(results), np.isfinite(results - reordered)
    total, within = map(float, variances(results, reordered))
    seeds = np.flatnonzero(known.any(0))
    others = np.array([np.delete(seeds, i) for i in range(len(seeds))])
    left = np.stack(variances(*(np.moveaxis(one[:, others], 0, 1) for one in (results, reordered))), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        moves = np.log(left) - np.log(left).mean(0)
        sizes = (moves**2).sum(0)
        jackknifed = np.sqrt((len(seeds) - 1) / len(seeds) * sizes)
        errors = np.maximum(jackknifed, _normal_errors(results, reordered))
        # Of a part that no seed changes the correlation is 0 over 0: nothing is shared.
        shared = np.nan_to_num(moves.prod(1).sum() / np.sqrt(sizes.prod())).clip(-1, 1)
    counts = int(known.sum(1).max()), int(paired.sum(1).max())  # seeds of other settings are no more seeds
    ends = [_ends(*own) for own in zip((total, within), errors, counts, (SEEDS, PAIRS), strict=True)]
    noise = rounding or 0.0
    return Split(
        total=Component(estimate=total, interval=ends[0]),
        draw=Component(estimate=total - within, interval=_of_difference(total, within, ends, float(shared))),
        order=Component(
            estimate=within - noise, interval=_above_zero(ends[1].low - noise, ends[1].high - noise)
        ),
        rounding=rounding,
        seeds=counts[0],
        pairs=int(paired.sum()),
    )


def variances(
    results: Float[np.ndarray, "... K S"], reordered: Float[np.ndarray, "... K S"]
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """The variance between seeds and half the mean squared difference of pairs, means over settings.

    Settings with one seed have no variance, and those without a pair no difference; nan where none has one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of settings without any, which are nan
        between = np.nanmean(np.nanvar(results, -1, ddof=1), -1)
        within = np.nanmean(np.nanmean((results - reordered) ** 2 / 2, -1), -1)
    return between, within


def _normal_errors(
    results: Float[np.ndarray, "K S"], reordered: Float[np.ndarray, "K S"]
) -> Float[np.ndarray, "2"]:
    """Standard errors of the logarithms of `variances` if numbers were normal and settings independent.

    A variance v with f degrees of freedom has the variance 2 v^2 / f.
    """
    found = []
    for values, used in ((results, 1), (results - reordered, 0)):
        counts = np.isfinite(values).sum(1)
        own, freedom = values[counts > used], counts[counts > used] - used
        sizes = np.nanvar(own, 1, ddof=1) if used else np.nanmean(own**2, 1)
        found.append(np.sqrt((2 * sizes**2 / freedom).sum()) / sizes.sum())
    return np.array(found)


def _ends(value: float, error: float, count: int, fewest: int) -> Interval:
    """The interval of a variance, from the standard error of its logarithm over a number of seeds."""
    if count < fewest or not np.isfinite(error):
        return NOWHERE
    half = quantile_of_t((1 + CONFIDENCE) / 2, count - 1) * error
    return Interval(low=value * np.exp(-half), high=value * np.exp(half))


def _of_difference(whole: float, part: float, ends: Sequence[Interval], shared: float) -> Interval:
    """The interval of `whole - part`, from the intervals of both and their correlation."""
    of_whole, of_part = ends
    down, up = whole - of_whole.low, of_whole.high - whole
    less, more = part - of_part.low, of_part.high - part
    below = np.sqrt(down**2 + more**2 - 2 * shared * down * more)
    above = np.sqrt(up**2 + less**2 - 2 * shared * up * less)
    return _above_zero(whole - part - below, whole - part + above)


def _above_zero(low: float, high: float) -> Interval:
    """An interval of a variance; numpy's maximum keeps nan."""
    return Interval(low=float(np.maximum(low, 0.0)), high=float(np.maximum(high, 0.0)))
