"""The checks of all trials of a study, and those that compare a trial with the model without a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from softprior.inputs.labels import counted, short_ids
from softprior.results.records import Record
from softprior.results.sanity import Check

if TYPE_CHECKING:
    import pandas as pd

ALIKE = 0.9
"""Share of answers that are those without a prompt from which the prompt is said to change none."""

KEPT = 0.5
"""Share of what swapped contexts cost without a prompt below which it is said to have stopped reading.

Below it most of what reading was worth is gone; docs/results.md says why not nearer to 1.
"""

SHOWN = 5
"""Most other trials that are named beside the first that did not pass a check."""

COLUMNS = ("trial", "label", "check", "number", "verdict", "words")


class Verdicts(NamedTuple):
    """What the checks of a study say.

    Attributes:
        lines: for the end of a study: how many trials passed, and which did not and why.
        faults: whether numbers of some trial are wrong.
    """

    lines: list[str]
    faults: bool


def checks(records: Mapping[str, Record]) -> dict[str, list[Check]]:
    """The checks of every trial that has any, by trial id."""
    alone = {
        record.spec.task.canonical(): record
        for record in records.values()
        if record.spec.method.name == "none" and record.status == "finished"
    }
    return {
        i: [*_own(record), *_beside(record, alone.get(record.spec.task.canonical()))]
        for i, record in records.items()
        if record.sanity
    }


def _own(record: Record) -> Iterator[Check]:
    """A trial's own checks; alarms of one without a trained prompt as notes, as there is none to blame."""
    for check in record.sanity:
        note = check.verdict == "alarm" and record.spec.training is None
        yield check.model_copy(update={"verdict": "note"}) if note else check


def sanity_table(records: Mapping[str, Record], labels: Mapping[str, str]) -> pd.DataFrame:
    """One row per trial and check."""
    import pandas as pd

    rows = [
        (i, labels[i], check.name, check.number, check.verdict, check.words)
        for i, found in checks(records).items()
        for check in found
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def verdicts(records: Mapping[str, Record], labels: Mapping[str, str]) -> Verdicts:
    """How many finished trials passed all checks, and a line for every check that some did not pass.

    Notes are lines too, and count against no trial.
    """
    finished = {i: record for i, record in records.items() if record.status == "finished"}
    if not finished:
        return Verdicts([], faults=False)
    found = checks(finished)
    bad: dict[tuple[str, str], list[tuple[str, Check]]] = {}
    for i, own in found.items():
        for check in own:
            if check.verdict != "passed":
                bad.setdefault((check.verdict, check.name), []).append((i, check))
    failed = {i for (verdict, _), those in bad.items() if verdict != "note" for i, _ in those}
    line = f"sanity: {len(found) - len(failed)} of {counted(len(found), 'trial')} passed"
    before = len(finished) - len(found)
    if before:
        line += f"; {before} from before there were checks"
    order = sorted(bad, key=lambda key: ("fault", "alarm", "note").index(key[0]))
    lines = [line, *(_named(verdict, bad[verdict, name], labels) for verdict, name in order)]
    return Verdicts(lines, faults=any(verdict == "fault" for verdict, _ in bad))


def _named(verdict: str, those: Sequence[tuple[str, Check]], labels: Mapping[str, str]) -> str:
    """One check that some trials did not pass: the first of them with the reason, and the others by id."""
    first, check = those[0]
    line = f"{verdict}: {labels[first]}: {check.words}"
    if len(those) == 1:
        return line
    ids = short_ids(list(labels))
    shown = ", ".join(ids[trial] for trial, _ in those[1 : SHOWN + 1])
    rest = "" if len(those) <= SHOWN + 1 else ", ...; Results.sanity has all"
    others = counted(len(those) - 1, "other trial")
    if all(own.words == check.words for _, own in those):
        return f"{line}; the same of {others} ({shown}{rest})"
    return f"{line}; the same {verdict} for {others}, with other numbers ({shown}{rest})"


def _beside(record: Record, alone: Record | None) -> Iterator[Check]:
    """What can be said of a trained prompt only beside the model without any."""
    if alone is None or record.spec.training is None or record.test is None or alone.test is None:
        return
    given = {found.example: found.answer for found in record.predictions}
    without = {found.example: found.answer for found in alone.predictions}
    both = given.keys() & without.keys()
    if both:
        same = sum(given[example] == without[example] for example in both) / len(both)
        yield Check(name="no_prompt_answers", number=same, verdict="alarm" if same >= ALIKE else "passed")
    if record.test.shuffled_loss is not None and alone.test.shuffled_loss is not None:
        there = alone.test.shuffled_loss - alone.test.loss
        if there > 0:
            kept = (record.test.shuffled_loss - record.test.loss) / there
            yield Check(name="kept_context", number=kept, verdict="alarm" if kept < KEPT else "passed")
