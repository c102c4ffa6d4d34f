"""Claim 13: the few vectors near the cluster are not what works."""

from __future__ import annotations

from dataclasses import replace

from analysis.findings.common import ONE_SEED, SEEDS, Judged, about, by_seed, noise
from analysis.findings.evidence import Evidence
from analysis.findings.rules import Direction
from analysis.findings.study import Run, Study
from analysis.findings.values import Claim

NEAR, FAR = "without_near", "without_far"
"""In `Study.numbers`: test losses after removing equally many vectors."""

CLAIM = Claim(
    name="near-tokens",
    number=13,
    words="The few vectors near the cluster are not what works",
    primary="Test loss after removing the vectors farthest from the vocabulary less that after removing "
    "equally many nearest ones, from the same prompt.",
    rule="Of each prior: supported if it is above zero, so that the near ones are missed less (corrected p "
    "of the sign-flip test at most 0.05 and a 95% interval above zero), contradicted if it is below zero in "
    "the same way.",
    quantity="nats",
)


def evidence(study: Study) -> list[Evidence]:
    """A finding for each cell and prior."""
    near, far = (study.numbers.get(name, {}) for name in (NEAR, FAR))

    def number(run: Run) -> float | None:
        return far[run.id] - near[run.id] if run.id in near and run.id in far else None

    found = []
    for cell in study.cells("prior"):
        rounding = noise(study, cell.sides.values(), number)
        for name, side in cell.sides.items():
            known = about(cell, name)
            values = side.values(number)
            if not values:
                reason = "no loss was measured after removing vectors; compute these losses"
                found.append(replace(known, missing=reason))
            elif len(values) < SEEDS:
                found.append(replace(known, missing=f"the prior {ONE_SEED}"))
            else:
                found.append(replace(known, numbers={"far - near": by_seed(values)}, noise=rounding))
    return found


JUDGED = Judged(CLAIM, Direction(), evidence)
