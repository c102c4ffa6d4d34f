"""Numbers of studies in which a claim is neither true nor false, or false by the smallest amount.

They prove the rules: verdicts on them are wrong in at most one study of twenty. A few in the tests, all of
them in benchmarks/findings_rules.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from analysis.findings.claims import JUDGED
from analysis.findings.evidence import Evidence
from analysis.findings.rules import Decision
from analysis.findings.values import Verdict
from analysis.inference import survival
from analysis.inference.multiple import holm
from softprior.seeding import numpy_generator

SEEDS = 9
"""Number of seeds of a simulated study."""

MARGIN = 0.1
"""Margin of equality of a simulated study, in nats."""

_RULES = {judged.claim.name: judged.rule for judged in JUDGED}

Make = Callable[[np.random.Generator], Evidence]


def _around(limit: float, *what: str) -> Make:
    """One number or several that lie at the limit, with heavy tails and what all of a seed share."""

    def make(generator: np.random.Generator) -> Evidence:
        shared = generator.standard_t(3, SEEDS)
        return Evidence(
            where="here",
            numbers={name: limit + 0.1 * (shared + generator.standard_t(3, SEEDS)) for name in what},
        )

    return make


def _apart(gap: float, sides: int) -> Make:
    """Pairs of sides of which the last is `gap` worse than the others."""

    def make(generator: np.random.Generator) -> Evidence:
        losses = generator.normal(0, 0.05, (sides, SEEDS))
        losses[-1] += gap
        numbers = {f"{b} - {a}": losses[b] - losses[a] for b in range(sides) for a in range(b)}
        return Evidence(
            where="here", numbers=numbers, margin=MARGIN, primary=tuple(f"{b} - 0" for b in range(1, sides))
        )

    return make


def _times(generator: np.random.Generator) -> Evidence:
    """Equal hazards, a third of all censored."""
    times = generator.exponential(1.0, (2, SEEDS))
    a, b = (survival.Times(np.minimum(own, 1.0), own <= 1.0) for own in times)
    return Evidence(where="here", numbers={"t": a.times - b.times}, tested={"t": survival.scores(b, a)})


class Null(NamedTuple):
    """Studies of one claim in which some verdicts are wrong.

    Attributes:
        claim: its name.
        make: draws what one study gives.
        wrong: the verdicts that are wrong for it.
    """

    claim: str
    make: Make
    wrong: frozenset[Verdict]


EITHER: frozenset[Verdict] = frozenset(("supported", "contradicted"))
SUPPORTED: frozenset[Verdict] = frozenset(("supported",))
CONTRADICTED: frozenset[Verdict] = frozenset(("contradicted",))

NULLS = (
    Null("memory", _around(0.5, "ratio"), EITHER),
    Null("collapse", _around(0.5, "L2", "cosine", "whitened"), EITHER | {"depends on the metric"}),
    Null("quality", _apart(MARGIN, 3), SUPPORTED),
    Null("quality", _apart(0.0, 3), CONTRADICTED),
    Null("quality", _apart(MARGIN, 2), EITHER),
    Null("speed", _times, EITHER),
    Null("between", _apart(MARGIN, 3), SUPPORTED),
    Null("regularisers", _around(0.0, "slope"), EITHER),
    Null("cut-or-keep", _apart(MARGIN, 2), EITHER),
    Null("rate", _around(0.0, "slope"), EITHER),
    Null("near-tokens", _around(0.0, "far - near", "random - near"), EITHER | {"depends on the metric"}),
    Null("forgetting", _around(0.0, "b - a", "c - a"), EITHER),
    Null("routing", _around(0.0, "log ratio"), EITHER),
    Null("words", _around(0.0, "correlation"), EITHER),
)
"""By claim; equality has one at its margin and one at zero, with the pairs that the claim compares."""


def verdict(claim: str, evidence: Evidence) -> Verdict:
    """By the claim's rule, corrected over its own tests."""
    rule = _RULES[claim]
    tests = rule.tests(evidence)
    corrected = holm(np.array([test.p for test in tests])).tolist()
    adjusted = {test.what: p for test, p in zip(tests, corrected, strict=True)}
    decided: Decision = rule.decide(evidence, adjusted)
    return decided.verdict


def errors(null: Null, studies: int) -> int:
    """Number of simulated studies, out of `studies`, that get a wrong verdict."""
    generator = numpy_generator(0, "null studies", null.claim)
    return sum(verdict(null.claim, null.make(generator)) in null.wrong for _ in range(studies))
