"""Intervals of a mean: over seeds, and over seeds and examples.

They are Student's: a bootstrap of nine numbers covers less than it promises (docs/findings.md).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy
from jaxtyping import Float

from analysis.inference.values import ANY, CONFIDENCE, Interval, PerExample, Range, equal, without_ends
from softprior.inputs.labels import counted

ONE_SEED, TWO_SEEDS = "one seed", "no interval from two seeds"
"""What stands in place of the interval of so few seeds."""

FEWEST = 3
"""Fewest seeds of an interval: that of two reaches 12.7 standard errors to either side, and says nothing."""


def over_seeds(values: Float[np.ndarray, "S"], level: float = CONFIDENCE, possible: Range = ANY) -> Interval:
    """Student's interval of the mean: for other seeds on the same examples, inside what the mean can be.

    One or two seeds give none, nor do seeds with equal numbers, whose interval of width zero would claim a
    certainty that nobody has.
    """
    if len(values) < 2:
        return without_ends(ONE_SEED, level)
    if equal(values):
        return without_ends(f"equal in all {counted(len(values), 'seed')}", level)
    if len(values) < FEWEST:
        return without_ends(TWO_SEEDS, level)
    low, high = ends_over_seeds(values, level)
    return Interval(low=float(low), high=float(high), level=level).cut(possible)


def spread(values: Float[np.ndarray, "S"]) -> float:
    """Standard deviation of two or more seeds; exactly zero where they are equal up to rounding."""
    return 0.0 if equal(values) else float(values.std(ddof=1))


def ends_over_seeds(
    values: Float[np.ndarray, "... S"], level: float = CONFIDENCE
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Student's ends for many studies at once: nan for one seed, of width zero for equal ones."""
    count = values.shape[-1]
    centre = values.mean(-1)
    if count < 2:
        return np.full_like(centre, np.nan), np.full_like(centre, np.nan)
    half = quantile_of_t((1 + level) / 2, count - 1) * values.std(-1, ddof=1) / np.sqrt(count)
    return centre - half, centre + half


@cache
def quantile_of_t(share: float, freedom: int) -> float:
    """Quantile of Student's t, remembered: scipy takes longer for it than for all else."""
    return float(scipy.stats.t.ppf(share, freedom))


def over_seeds_and_groups(values: PerExample, level: float = CONFIDENCE) -> Interval:
    """Interval of the mean over label tokens: for other seeds and other examples of the same kind.

    Seeds and groups are crossed, both drawn at random. The variance of the mean is (MS_seeds + MS_groups -
    MS_rest) / (S G), never less than what seeds or groups alone give, with Satterthwaite's degrees of freedom
    (Montgomery, Design and Analysis of Experiments, chapter 13). With few seeds, these can exceed the seeds'
    own by enough to make the interval narrower than that for other seeds alone; the wider of the two is then
    given. Groups enter by their number of label tokens (the ratio estimator, linearised).

    Args:
        values: paired differences, or one setting's values.
    """
    table = by_group(values)
    seeds, groups = table.shape
    centre = float(table.mean())
    if seeds < FEWEST or groups < 2:
        few = ONE_SEED if seeds < 2 else TWO_SEEDS
        return without_ends(few if seeds < FEWEST else "one group", level)
    if equal(table.ravel()):
        return without_ends("equal in all seeds and groups", level)
    of_seeds, of_groups, rest = mean_squares(table)
    freedoms = np.array([seeds - 1, groups - 1, (seeds - 1) * (groups - 1)])
    squares = np.array([of_seeds, of_groups, rest])
    total = of_seeds + of_groups - rest
    if total > max(of_seeds, of_groups):
        freedom = total**2 / (squares**2 / freedoms).sum()
    else:
        total = max(of_seeds, of_groups)
        freedom = freedoms[0] if of_seeds >= of_groups else freedoms[1]

    def half(variance: float, freedom: float) -> float:
        return float(scipy.stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(variance / table.size))

    widest = max(half(total, freedom), half(of_seeds, seeds - 1))
    return Interval(low=centre - widest, high=centre + widest, level=level)


def by_group(values: PerExample) -> Float[np.ndarray, "S G"]:
    """Contributions of groups to the mean over label tokens of each seed; their plain mean is that mean."""
    sums, sizes = _grouped(values)
    mean = sums.sum() / (len(sums) * sizes.sum())
    found: np.ndarray = mean + (sums - mean * sizes) * len(sizes) / sizes.sum()
    return found


def mean_squares(table: Float[np.ndarray, "A B"]) -> tuple[float, float, float]:
    """Mean squares of rows, of columns and of the rest of a table with one number in each cell."""
    rows, columns = table.shape
    centre = table.mean()
    of_rows, of_columns = table.mean(1) - centre, table.mean(0) - centre
    rest = table - centre - of_rows[:, None] - of_columns
    return (
        float(columns * (of_rows**2).sum() / (rows - 1)),
        float(rows * (of_columns**2).sum() / (columns - 1)),
        float((rest**2).sum() / ((rows - 1) * (columns - 1))),
    )


def _grouped(values: PerExample) -> tuple[Float[np.ndarray, "S G"], Float[np.ndarray, "G"]]:
    """Sums of values and of weights by group."""
    names, index = np.unique(np.asarray(values.groups), return_inverse=True)
    count = len(names)
    sums = np.stack([np.bincount(index, row, count) for row in values.values])
    return sums, np.bincount(index, values.weights, count)
