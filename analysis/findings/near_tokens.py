"""The few vectors near the cluster are not what works."""

from __future__ import annotations

from dataclasses import replace

from analysis.findings.common import (
    ONE_SEED,
    SEEDS,
    Judged,
    about,
    by_seed,
    few_seeds,
    noise,
    together,
    why_unprobed,
)
from analysis.findings.evidence import Evidence, Noise
from analysis.findings.rules import Direction
from analysis.findings.study import Cell, Number, Study
from analysis.findings.values import Claim

NEAR, FAR, RANDOM = "without_near", "without_far", "without_random"
"""In `Study.numbers`: test losses after removing equally many vectors."""

OTHERS = {"far - near": FAR, "random - near": RANDOM}
"""What the nearest vectors are compared with, by the name of the comparison."""

CLAIM = Claim(
    name="near-tokens",
    number=13,
    words="The few vectors near the cluster are not what works",
    primary="Test loss after removing a quarter of the vectors, the farthest from the vocabulary or random "
    "ones, less that after removing equally many nearest ones, from the same prompt. Distances are those of "
    "`collapse` in L2: to the tenth nearest token.",
    rule="For each prior: supported if both numbers are above zero, so that the near ones are missed less "
    "(corrected p of the sign-flip test at most 0.05 and a 95% interval above zero), contradicted if "
    "both are below zero in the same way. If one is above and the other below, it depends on what is "
    "removed; if one does not decide, it is undecided.",
    quantity="nats",
    metrics="what is removed",
    formerly=(
        "Of each prior: supported if both numbers are above zero, so that the near ones are missed less "
        "(corrected p of the sign-flip test at most 0.05 and a 95% interval above zero), contradicted if "
        "both are below zero in the same way. If one is above and the other below, it depends on what is "
        "removed; if one does not decide, it is undecided.",
        "Of each prior: supported if both numbers are above zero, so that the near ones are missed less "
        "(corrected p of the sign-flip test at most 0.05 and a 95% interval above zero), contradicted if "
        "both are below zero in the same way. If one is above and the other below, it depends on the metric; "
        "if one does not decide, it is undecided.",
    ),
)


def evidence(study: Study) -> list[Evidence]:
    """A finding for each cell and prior."""
    found = []
    for cell in study.cells("prior"):
        rounding = _noise(study, cell)
        for name, side in cell.sides.items():
            known = about(cell, name)
            values = {what: side.values(_missed(study, other)) for what, other in OTHERS.items()}
            fewest = min(map(len, values.values()))
            if not fewest:
                what = "no loss was measured after removing vectors"
                reason = why_unprobed(side.runs.values(), "removal", what)
                found.append(replace(known, missing=together(reason, few_seeds(cell))))
            elif fewest < SEEDS:
                found.append(replace(known, missing=f"the prior {ONE_SEED}"))
            else:
                numbers = {what: by_seed(own) for what, own in values.items()}
                trials = {what: side.trials(own) for what, own in values.items()}
                found.append(replace(known, numbers=numbers, trials=trials, noise=rounding))
    return found


def _noise(study: Study, cell: Cell) -> Noise | None:
    """The noise of the comparison in which a cell's twins are farthest from their trials."""
    found = [noise(study, cell.sides.values(), _missed(study, other)) for other in OTHERS.values()]
    return max((value for value in found if value is not None), default=None)


def _missed(study: Study, other: str) -> Number:
    """How much more the other vectors are missed than the nearest ones."""
    near, others = (study.numbers.get(name, {}) for name in (NEAR, other))
    return lambda run: others[run.id] - near[run.id] if run.id in near and run.id in others else None


JUDGED = Judged(CLAIM, Direction(), evidence)
