"""What tests and intervals take and return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

LEVEL = 0.05
"""Corrected p-values up to this one count."""

CONFIDENCE = 0.95
"""Level of intervals."""

EQUIVALENCE = 0.90
"""Level of the interval of a test of equality: two one-sided tests at `LEVEL` (1 - 2 * LEVEL)."""

POWER = 0.8
"""With which a study should find an effect."""


ROUNDING = 1e-12
"""Relative to the largest of them, or to one: equal numbers differ by less, however they were computed."""


class Range(NamedTuple):
    """What a number can be, ends included."""

    low: float
    high: float


ANY = Range(-np.inf, np.inf)
LOSS = Range(0.0, np.inf)
SHARE = Range(0.0, 1.0)
"""The range of accuracies and of scores of answers, too."""

CORRELATION = Range(-1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where a number lies.

    Attributes:
        low, high: the ends, in the units of the number; nan where there are none.
        level: share of studies whose interval contains the true number.
        missing: why there are no ends, such as `one seed`; empty where there are some.
    """

    low: float
    high: float
    level: float = CONFIDENCE
    missing: str = ""

    def cut(self, possible: Range) -> Interval:
        """Its part inside of a range, which contains the true number as often: docs/decisions/0042."""
        low, high = (float(np.clip(end, *possible)) for end in (self.low, self.high))
        return replace(self, low=low, high=high)

    def above(self, value: float) -> bool:
        return self.low > value

    def below(self, value: float) -> bool:
        return self.high < value


def without_ends(missing: str, level: float = CONFIDENCE) -> Interval:
    """An interval that cannot be estimated, and why."""
    return Interval(low=np.nan, high=np.nan, level=level, missing=missing)


def equal(values: Float[np.ndarray, "... S"]) -> Bool[np.ndarray, "..."]:
    """Whether the seeds of each study have the same number, up to rounding.

    Differences near zero are rounded as the numbers are that were subtracted: losses, shares and ratios,
    which are of the order of one.
    """
    found: np.ndarray = np.ptp(values, axis=-1) <= ROUNDING * np.maximum(np.abs(values).max(-1), 1.0)
    return found


@dataclass(frozen=True)
class PerExample:
    """One setting's results on the same examples for several seeds.

    Attributes:
        values: sums over the label tokens of each example: negative log-likelihood in nats, or the number of
            tokens that were right.
        weights: label tokens of each example; ones for a plain mean over examples.
        groups: the article, module or document of each example; examples of one group are not independent.
        seeds: of the rows of `values`.
        examples: their ids, by which results of several settings are paired.
    """

    values: Float[np.ndarray, "S E"]
    weights: Float[np.ndarray, "E"]
    groups: Sequence[str]
    seeds: tuple[int, ...]
    examples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows, examples = self.values.shape
        if rows != len(self.seeds) or not examples == len(self.weights) == len(self.groups):
            raise ValueError(
                f"values has {rows} seeds and {examples} examples, but there are {len(self.seeds)} seeds, "
                f"{len(self.weights)} weights and {len(self.groups)} groups"
            )

    def means(self) -> Float[np.ndarray, "S"]:
        """The mean over label tokens of each seed, as `Score.loss` has it."""
        found: np.ndarray = self.values.sum(1) / self.weights.sum()
        return found
