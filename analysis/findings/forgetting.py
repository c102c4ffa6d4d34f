"""Claim 16: priors differ in forgetting."""

from __future__ import annotations

from analysis.findings.common import ONE_SEED, SEEDS, Judged, pair
from analysis.findings.evidence import Evidence
from analysis.findings.rules import Differ
from analysis.findings.study import Run, Study
from analysis.findings.values import Claim

NUMBER = "forgetting"
"""In `Study.numbers`."""

CLAIM = Claim(
    name="forgetting",
    number=16,
    words="Priors differ in forgetting",
    primary="Loss on running text with the prompt less the loss without: the difference between a prior and "
    "the study's first, each at the rate chosen on validation.",
    rule="Supported if some difference has a corrected p of at most 0.05 (sign flips over seeds) and a 95% "
    "interval without zero. Otherwise undecided.",
    quantity="nats",
)


def evidence(study: Study) -> list[Evidence]:
    """A finding for each cell."""
    table = study.numbers.get(NUMBER, {})

    def number(run: Run) -> float | None:
        return table.get(run.id)

    found = []
    for cell in study.cells("prior"):
        known = {"where": cell.where, "rates": cell.rates, "budget": cell.budget}
        first, *others = cell.sides
        if not others:
            found.append(Evidence(missing="the study has one prior here; add another", **known))
        elif not any(number(run) is not None for side in cell.sides.values() for run in side.runs.values()):
            reason = "no running text was read with these prompts; add language to evaluation.also"
            found.append(Evidence(missing=reason, **known))
        else:
            numbers = {pair(name, first): cell.differences(name, first, number) for name in others}
            enough = {what: own for what, own in numbers.items() if len(own) >= SEEDS}
            missing = "" if enough else f"every pair {ONE_SEED}"
            found.append(Evidence(numbers=enough, missing=missing, **known))
    return found


JUDGED = Judged(CLAIM, Differ(), evidence)
