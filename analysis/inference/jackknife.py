"""Intervals over seeds of numbers that are not plain means: the jackknife leaves out each seed in turn.

A seed is left out everywhere at once, in all tasks and priors, as its trials share their random numbers. The
number is computed anew each time, which prior is best included; what was chosen before stays, as rates are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from analysis.inference.intervals import FEWEST, TWO_SEEDS, quantile_of_t
from analysis.inference.values import CONFIDENCE, ROUNDING, Interval, without_ends

Number = Callable[[Int[np.ndarray, "... R"]], Float[np.ndarray, "..."]]
"""A number of some seeds, which are given by their rows; of several choices of seeds at once."""


class Estimate(NamedTuple):
    """A number and its standard error over seeds."""

    value: float
    error: float
    seeds: int


def jackknife(number: Number, seeds: int) -> Estimate:
    """A number of all seeds, and its standard error (Efron and Stein 1981); nan for one seed."""
    rows = np.arange(seeds)
    value = float(number(rows))
    if seeds < 2:
        return Estimate(value, np.nan, seeds)
    left = number(np.array([np.delete(rows, i) for i in rows]))
    error = np.sqrt((seeds - 1) / seeds * ((left - left.mean()) ** 2).sum())
    return Estimate(value, float(error), seeds)


def student(estimate: Estimate, level: float = CONFIDENCE) -> Interval:
    """Student's interval; of a mean it is `intervals.over_seeds`.

    None of one or two seeds, and none where no seed changes the number.
    """
    if estimate.error <= ROUNDING * max(abs(estimate.value), 1.0):
        return without_ends("the same whichever seed is left out", level)
    if estimate.seeds < FEWEST:
        return without_ends("one seed" if estimate.seeds < 2 else TWO_SEEDS, level)
    half = _quantile(estimate, level) * estimate.error
    return Interval(low=estimate.value - half, high=estimate.value + half, level=level)


def of_probability(estimate: Estimate, pairs: int, level: float = CONFIDENCE) -> Interval:
    """Wilson's interval of a probability, inside of [0, 1] and never of width zero.

    The number of independent trials is the one that gives the standard error, at most all pairs. Where all
    pairs agree there is no error, and the seeds count once each.

    Args:
        pairs: number of comparisons behind the probability.
    """
    p, t = estimate.value, _quantile(estimate, level)
    count = float(estimate.seeds)
    if estimate.error > 0 and 0 < p < 1:
        count = min(p * (1 - p) / estimate.error**2, float(pairs))
    centre = (p + t**2 / (2 * count)) / (1 + t**2 / count)
    half = t / (1 + t**2 / count) * np.sqrt(p * (1 - p) / count + t**2 / (4 * count**2))
    return Interval(low=float(max(0.0, centre - half)), high=float(min(1.0, centre + half)), level=level)


def _quantile(estimate: Estimate, level: float) -> float:
    return quantile_of_t((1 + level) / 2, max(1, estimate.seeds - 1))
