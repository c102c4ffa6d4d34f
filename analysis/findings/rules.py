"""How numbers become verdicts. Every claim has one of these; docs/findings.md says how often they are wrong.

A rule first names its tests, whose p-values are corrected together with those of the study's other
claims, and then decides by the corrected ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from analysis.findings.evidence import Evidence
from analysis.findings.values import Verdict
from analysis.inference import equality, permutation, survival
from analysis.inference.intervals import over_seeds
from analysis.inference.values import LEVEL, equal

EQUAL = "all pairs"
"""Name of the test of equality of all pairs at once."""

BEYOND = " beyond the margin"
"""Ends the name of the test that contradicts equality."""


class Tested(NamedTuple):
    """A test of one claim.

    Attributes:
        what: the comparison, or `EQUAL`.
        p: raw.
        least: the smallest p that it can give.
        name: of the test.
    """

    what: str
    p: float
    least: float
    name: str


class Decision(NamedTuple):
    """What a rule says.

    Attributes:
        verdict: supported, contradicted, undecided, or that it depends on the metric.
        what: the comparison that decides. Where all have to agree, it is the weakest of them; where some
            leave the verdict open, the one of these that comes nearest to deciding.
    """

    verdict: Verdict
    what: str


class Rule(Protocol):
    """How one claim is decided."""

    def claimed(self, margin: float | None) -> str:
        """Where the claim says that its numbers lie, such as `above 0.5`.

        Args:
            margin: of equality, if the rule has one.
        """
        ...

    def tests(self, evidence: Evidence) -> list[Tested]:
        """All tests of the claim; none where nothing was measured in two seeds."""
        ...

    def decide(self, evidence: Evidence, adjusted: Mapping[str, float]) -> Decision:
        """The verdict.

        Args:
            adjusted: corrected p-values by `Tested.what`.
        """
        ...


@dataclass(frozen=True)
class Direction:
    """A number lies on one side of a limit.

    Supported if it lies on that side: corrected p of the test at most 0.05, and the 95% interval excludes the
    limit. Contradicted if it lies on the other side in the same way. Equal numbers have no interval, and
    where something else is tested than the numbers (`Evidence.tested`), their interval plays no part: p then
    decides alone. Several numbers are metrics of one thing: if one supports the claim and another contradicts
    it, it depends on the metric; if some do not decide, it is undecided.

    Attributes:
        limit: with which numbers are compared.
        above: whether the claim is that they are above it.
        test: name of the test.
    """

    limit: float = 0.0
    above: bool = True
    test: str = permutation.NAME

    def claimed(self, margin: float | None) -> str:  # noqa: ARG002
        return f"{'above' if self.above else 'below'} {self.limit:g}"

    def tests(self, evidence: Evidence) -> list[Tested]:
        found = []
        for what, numbers in evidence.numbers.items():
            tested = evidence.tested.get(what, numbers - self.limit)
            p, least = float(permutation.sign_flip(tested)), permutation.least_p(len(tested))
            found.append(Tested(what, p, least, self.test))
        return found

    def decide(self, evidence: Evidence, adjusted: Mapping[str, float]) -> Decision:
        verdicts = {what: self._one(evidence, what, p) for what, p in adjusted.items()}
        kinds = set(verdicts.values())
        if {"supported", "contradicted"} <= kinds:
            return Decision("depends on the metric", _nearest(evidence, adjusted, adjusted, self.limit))
        # The number that leaves it open says why, and what would settle it.
        still_open = [what for what, verdict in verdicts.items() if verdict == "undecided"]
        if still_open:
            return Decision("undecided", _nearest(evidence, adjusted, still_open, self.limit))
        weakest = max(adjusted, key=lambda what: (adjusted[what], -_distance(evidence, what, self.limit)))
        return Decision(verdicts[weakest], weakest)

    def _one(self, evidence: Evidence, what: str, p: float) -> Verdict:
        numbers = evidence.numbers[what]
        side = _side(evidence.tested.get(what, numbers - self.limit))
        if what not in evidence.tested:
            side *= excludes(numbers, self.limit)
        if p > LEVEL or side == 0:
            return "undecided"
        return "supported" if (side > 0) == self.above else "contradicted"


@dataclass(frozen=True)
class Differ:
    """Some number is not zero.

    Supported if one of them has a corrected p of at most 0.05 and a 95% interval without zero; of equal
    numbers, which have no interval, p decides alone. A test cannot show that there is no difference at all,
    so the claim is otherwise undecided.
    """

    def claimed(self, margin: float | None) -> str:  # noqa: ARG002
        return "not 0"

    def tests(self, evidence: Evidence) -> list[Tested]:
        return Direction().tests(evidence)

    def decide(self, evidence: Evidence, adjusted: Mapping[str, float]) -> Decision:
        clear = [what for what, p in adjusted.items() if p <= LEVEL and excludes(evidence.numbers[what], 0.0)]
        nearest = _nearest(evidence, adjusted, clear or adjusted, 0.0)
        return Decision("supported" if clear else "undecided", nearest)


@dataclass(frozen=True)
class Equal:
    """All numbers lie inside a margin around zero.

    Supported if two one-sided t-tests show it for every pair: the largest p of all pairs counts once, as all
    have to be equal. Pairs whose seeds are equal have one-sided sign flips in their place (`equality.tost`).
    Contradicted if the sign-flip test shows for a comparison with the reference that it lies outside the
    margin. A difference that is real but smaller than the margin is equality.
    """

    def claimed(self, margin: float | None) -> str:
        return "" if margin is None else f"within \N{PLUS-MINUS SIGN}{margin:.3g}"

    def tests(self, evidence: Evidence) -> list[Tested]:
        margin = evidence.margin
        assert margin is not None
        if not evidence.numbers:
            return []
        least_equal = evidence.numbers[_least_equal(evidence, margin)]
        found = [of_equality(least_equal, margin)]
        for what in evidence.primary or evidence.numbers:
            own = evidence.numbers[what]
            p, least = float(permutation.beyond(own, margin)), permutation.least_p(len(own))
            found.append(Tested(what, p, least, f"{permutation.NAME}{BEYOND}"))
        return found

    def decide(self, evidence: Evidence, adjusted: Mapping[str, float]) -> Decision:
        margin = evidence.margin
        assert margin is not None
        beyond = {what: p for what, p in adjusted.items() if what != EQUAL}
        farthest = min(beyond, key=beyond.__getitem__)
        if beyond[farthest] <= LEVEL:
            return Decision("contradicted", farthest)
        supported = adjusted[EQUAL] <= LEVEL
        return Decision("supported" if supported else "undecided", _least_equal(evidence, margin))


def _nearest(evidence: Evidence, adjusted: Mapping[str, float], among: Iterable[str], limit: float) -> str:
    """The number with the smallest p; of several, the one farthest from the limit."""
    return min(among, key=lambda what: (adjusted[what], -_distance(evidence, what, limit)))


def _distance(evidence: Evidence, what: str, limit: float) -> float:
    return abs(float(evidence.numbers[what].mean()) - limit)


def _least_equal(evidence: Evidence, margin: float) -> str:
    """The pair with the largest p of equality."""
    return max(evidence.numbers, key=lambda what: float(equality.tost(evidence.numbers[what], margin)))


def of_equality(differences: Float[np.ndarray, "S"], margin: float) -> Tested:
    """The test of equality of one pair."""
    p, least = float(equality.tost(differences, margin)), equality.least_p(differences)
    return Tested(EQUAL, p, least, equality.name(differences))


SOONER = Direction(test=survival.NAME)
"""The rule for times: the scores of a log-rank test, with seeds as strata."""


def excludes(numbers: Float[np.ndarray, "S"], limit: float) -> bool:
    """Whether the 95% interval excludes a limit.

    Equal numbers have no interval. The sign-flip test, which estimates no spread, then decides alone.
    """
    interval = over_seeds(numbers)
    return bool(equal(numbers)) or interval.above(limit) or interval.below(limit)


def _side(values: Float[np.ndarray, "S"]) -> int:
    return int(np.sign(values.mean()))
