"""What people see of a study's entries, kept in study.json: records have no labels of the study file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from softprior.errors import UserError
from softprior.inputs.entries import Entry, Shown
from softprior.inputs.specs import TrialSpec
from softprior.results.records import Record

ENTRIES = "entries"
"""Key of study.json: every entry once, with what is shown of it; by trial, its entries and its probes."""


def entries_of(trials: Iterable[TrialSpec]) -> dict[str, Any]:
    """The entries of a plan's trials, for study.json."""
    known: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}

    def number(entry: Entry) -> int:
        value = {"entry": entry.model_dump(mode="json"), "shown": entry.shown._asdict()}
        text = json.dumps(value, sort_keys=True)
        if text not in numbers:
            numbers[text] = len(known)
            known.append(value)
        return numbers[text]

    by_trial = {
        trial.id: {
            "task": number(trial.task),
            "method": number(trial.method),
            "prior": None if trial.prior is None else number(trial.prior),
            "regularisers": [number(term) for term in trial.regularisers],
            "also": [number(task) for task in trial.evaluation.also],
            "probes": list(trial.evaluation.probes),
        }
        for trial in trials
    }
    return {"known": known, "trials": by_trial}


def planned_priors(header: Mapping[str, Any]) -> list[Entry]:
    """The priors of a study's trials in their order, each once; none in files from before they were kept.

    Args:
        header: study.json.
    """
    found = header.get(ENTRIES)
    if not isinstance(found, dict):
        return []
    numbers = dict.fromkeys(own["prior"] for own in found["trials"].values() if own["prior"] is not None)
    return [Entry.model_validate(found["known"][i]["entry"]) for i in numbers]


def as_planned(records: Mapping[str, Record], header: Mapping[str, Any]) -> dict[str, Record]:
    """The records that study.json has entries of, each with its entries as the study last planned them.

    Ids, and so what trials are, do not depend on them: labels and paths may have changed since. Tasks keep
    the text of the record, by which the rows per example are found.
    """
    found = header.get(ENTRIES)
    if not isinstance(found, dict):
        return {}
    try:
        known = [
            Entry.model_validate(value["entry"]).shown_as(Shown(**value["shown"])) for value in found["known"]
        ]
        return {
            trial: _with(record, known, found["trials"][trial])
            for trial, record in records.items()
            if trial in found["trials"]
        }
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(
            f"study.json is damaged: its '{ENTRIES}' cannot be read ({type(error).__name__}); run the study "
            "again, which writes it anew"
        ) from None


def _with(record: Record, known: list[Entry], own: Mapping[str, Any]) -> Record:
    planned = known[own["task"]]
    task = record.spec.task.shown_as(planned.shown)
    # The own task among the others keeps the record's text too, or it would be one that was not measured.
    also = tuple(task if known[i].canonical() == planned.canonical() else known[i] for i in own["also"])
    shown = {entry.canonical(): entry.shown for entry in (task, *also)}
    spec = record.spec.model_copy(
        update={
            "task": task,
            "method": known[own["method"]],
            "prior": None if own["prior"] is None else known[own["prior"]],
            "regularisers": tuple(known[i] for i in own["regularisers"]),
            "evaluation": record.spec.evaluation.model_copy(
                update={"also": also, "probes": tuple(own.get("probes", ()))}
            ),
        }
    )
    others = tuple(
        other.model_copy(update={"task": other.task.shown_as(shown.get(text, other.task.shown))})
        for other in record.also
        for text in [other.task.canonical()]
    )
    return record.model_copy(update={"spec": spec, "also": others})
