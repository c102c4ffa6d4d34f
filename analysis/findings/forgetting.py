"""Priors differ in forgetting."""

from __future__ import annotations

from dataclasses import replace

from analysis.findings.changes import lost_reference, why_lost
from analysis.findings.common import ONE_SHARED, SEEDS, Judged, about, by_example, noise, pair
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
        known = about(cell)
        first, *others = cell.sides
        if not others:
            found.append(replace(known, missing="the study has one prior here; add another"))
        elif not any(number(run) is not None for side in cell.sides.values() for run in side.runs.values()):
            reason = "no running text was read with these prompts; add language to evaluation.also"
            found.append(replace(known, missing=reason))
        else:
            numbers = {pair(name, first): cell.differences(name, first, number) for name in others}
            enough = {what: own for what, own in numbers.items() if len(own) >= SEEDS}
            trials = {pair(name, first): cell.trials(name, first, number) for name in others}
            examples = by_example(cell, [(first, name) for name in others], study.texts)
            missing = "" if enough else f"every pair {ONE_SHARED}"
            rounding = noise(study, cell.sides.values(), number)
            gone = lost_reference(cell, study.expected)
            guard = why_lost(gone) if gone else ""
            found.append(
                replace(
                    known,
                    numbers=enough,
                    trials=trials,
                    missing=missing,
                    guard=guard,
                    examples=examples,
                    noise=rounding,
                )
            )
    return found


JUDGED = Judged(CLAIM, Differ(), evidence)
