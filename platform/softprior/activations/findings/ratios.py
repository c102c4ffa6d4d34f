"""The numbers of a site that claims are judged by, each with its interval and whether its test is sure."""

from __future__ import annotations

from math import exp
from typing import NamedTuple

from softprior.activations.findings.claims import LEVEL
from softprior.activations.findings.pairs import PairFindings
from softprior.activations.findings.sites import SiteFindings
from softprior.statistics.sequences import TrajectorySummary


class Ratio(NamedTuple):
    """A number and its interval at one site.

    Attributes:
        value: the number.
        low: end of its interval.
        high: the other end.
        sure: whether a corrected p-value is at most `LEVEL`.
    """

    value: float
    low: float
    high: float
    sure: bool = False

    def __str__(self) -> str:
        return f"{short(self.value)} ({short(self.low)} to {short(self.high)})"


def short(value: float) -> str:
    """A number in a few digits."""
    if 0 < abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def sure(p: float | None) -> bool:
    """Whether a corrected p-value is known and counts."""
    return p is not None and p <= LEVEL


def trace_ratio(found: SiteFindings) -> Ratio | None:
    """The trace of a text's tokens over its null: the geometric mean over documents."""
    return _over_null(found.trace, found.trace_holm)


def step_ratio(found: SiteFindings) -> Ratio | None:
    """The steps of a text over those of the same text shuffled."""
    return _over_null(found.step, found.step_holm)


def answer_ratio(found: SiteFindings) -> Ratio | None:
    """The trace of an answer's tokens over that of random spans of its text."""
    return _over_null(found.answer, found.answer_holm)


def radii_ratio(found: SiteFindings) -> Ratio | None:
    """How widely radii spread, over Gaussian data's."""
    radii = found.radii
    if radii.ratio is None or radii.low is None or radii.high is None:
        return None
    # There is no test beside the interval, and the line says so.
    return Ratio(radii.ratio, radii.low, radii.high, sure=True)


def separation_of(found: PairFindings) -> Ratio | None:
    """MMD^2 of two tasks, whose zero is "no difference"."""
    apart = found.separation
    if apart.between is None or apart.low is None or apart.high is None:
        return None
    return Ratio(apart.between, apart.low, apart.high, sure(found.holm))


def _over_null(summary: TrajectorySummary, holm: float | None) -> Ratio | None:
    if summary.mean_log_ratio is None or summary.low is None or summary.high is None:
        return None
    return Ratio(exp(summary.mean_log_ratio), exp(summary.low), exp(summary.high), sure(holm))
