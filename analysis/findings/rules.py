"""How numbers become verdicts. Every claim has one of these; docs/findings.md says how often they are wrong.

A rule first names its tests, whose p-values are corrected together with those of the study's other
claims, and then decides by the corrected ones.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    """The verdict, and the name of the comparison that decides or comes nearest to it."""

    verdict: Verdict
    what: str


class Rule(Protocol):
    """How one claim is decided."""

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

    Supported if it lies on that side: corrected p of the sign-flip test at most 0.05, and the 95% interval
    excludes the limit. Contradicted if it lies on the other side in the same way. Several numbers are metrics
    of one thing: if one supports the claim and another contradicts it, it depends on the metric; if some do
    not decide, it is undecided.

    Attributes:
        limit: with which numbers are compared.
        above: whether the claim is that they are above it.
        test: name of the test.
    """

    limit: float = 0.0
    above: bool = True
    test: str = permutation.NAME

    def tests(self, evidence: Evidence) -> list[Tested]:
        found = []
        for what, numbers in evidence.numbers.items():
            tested = evidence.tested.get(what, numbers - self.limit)
            p, least = float(permutation.sign_flip(tested)), permutation.least_p(len(tested))
            found.append(Tested(what, p, least, self.test))
        return found

    def decide(self, evidence: Evidence, adjusted: Mapping[str, float]) -> Decision:
        verdicts = {what: self._one(evidence, what, p) for what, p in adjusted.items()}
        nearest = min(adjusted, key=adjusted.__getitem__)
        kinds = set(verdicts.values())
        if {"supported", "contradicted"} <= kinds:
            return Decision("depends on the metric", nearest)
        # The number that leaves it open says why, and what would settle it.
        still_open = [what for what, verdict in verdicts.items() if verdict == "undecided"]
        if still_open:
            return Decision("undecided", min(still_open, key=adjusted.__getitem__))
        return Decision(verdicts[nearest], nearest)

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

    Supported if one of them has a corrected p of at most 0.05 and a 95% interval without zero. A test cannot
    show that there is no difference at all, so the claim is otherwise undecided.
    """

    def tests(self, evidence: Evidence) -> list[Tested]:
        return Direction().tests(evidence)

    def decide(self, evidence: Evidence, adjusted: Mapping[str, float]) -> Decision:
        nearest = min(adjusted, key=adjusted.__getitem__)
        for what in sorted(adjusted, key=adjusted.__getitem__):
            if adjusted[what] <= LEVEL and excludes(evidence.numbers[what], 0.0):
                return Decision("supported", what)
        return Decision("undecided", nearest)


@dataclass(frozen=True)
class Equal:
    """All numbers lie inside a margin around zero.

    Supported if two one-sided t-tests show it for every pair: the largest p of all pairs counts once, as all
    have to be equal. Contradicted if the sign-flip test shows for a comparison with the reference that it
    lies outside the margin. A difference that is real but smaller than the margin is equality.
    """

    def tests(self, evidence: Evidence) -> list[Tested]:
        margin = evidence.margin
        assert margin is not None
        if not evidence.numbers:
            return []
        equal = max(float(equality.tost(own, margin)) for own in evidence.numbers.values())
        found = [Tested(EQUAL, equal, 0.0, equality.NAME)]
        for what in evidence.primary or evidence.numbers:
            own = evidence.numbers[what]
            p, least = float(permutation.beyond(own, margin)), permutation.least_p(len(own))
            found.append(Tested(what, p, least, f"{permutation.NAME} beyond the margin"))
        return found

    def decide(self, evidence: Evidence, adjusted: Mapping[str, float]) -> Decision:
        margin = evidence.margin
        assert margin is not None
        beyond = {what: p for what, p in adjusted.items() if what != EQUAL}
        farthest = min(beyond, key=beyond.__getitem__)
        if beyond[farthest] <= LEVEL:
            return Decision("contradicted", farthest)
        least_equal = max(evidence.numbers, key=lambda w: float(equality.tost(evidence.numbers[w], margin)))
        supported = adjusted[EQUAL] <= LEVEL
        return Decision("supported" if supported else "undecided", least_equal)


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
