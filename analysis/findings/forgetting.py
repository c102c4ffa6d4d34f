"""Priors differ in forgetting."""

from __future__ import annotations

from dataclasses import replace

from analysis.findings.changes import lost_reference, why_lost
from analysis.findings.common import (
    ONE_PRIOR,
    ONE_SHARED,
    SEEDS,
    Judged,
    about,
    by_example,
    few_seeds,
    noise,
    pair,
    together,
)
from analysis.findings.evidence import Evidence
from analysis.findings.rules import Differ
from analysis.findings.study import Cell, Run, Study
from analysis.findings.values import Claim
from softprior.inputs.entries import Entry
from softprior.tasks import TASKS
from softprior.training.also import other_tasks

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
        unread = "" if any(number(run) is not None for run in cell.runs) else _missing(cell)
        if unread or not others:
            one = "" if others else ONE_PRIOR
            found.append(replace(known, missing=together(one, unread, few_seeds(cell))))
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


def is_running_text(task: Entry) -> bool:
    """Whether loss on a task is forgetting; that of `cloze` is not, whose entries have the same name."""
    return TASKS.kind(task) is TASKS["language"]


def _missing(cell: Cell) -> str:
    """Why no running text was read with the prompts of a cell, and what would change that."""
    spec, reason = cell.runs[0].record.spec, "no running text was read with these prompts"
    if any(map(is_running_text, other_tasks(spec))):
        return f"{reason} and without, although evaluation.also asks for it; run the study again"
    if any(map(is_running_text, spec.evaluation.also)):
        return f"{reason} but that of their own task; add language with other data to evaluation.also"
    return f"{reason}; add language to evaluation.also"


JUDGED = Judged(CLAIM, Differ(), evidence)
