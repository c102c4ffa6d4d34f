"""What people see of a study's entries, kept in study.json: records have no labels of the study file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from softprior.errors import UserError
from softprior.inputs.entries import Entry, Shown
from softprior.inputs.specs import Probe, TrialSpec
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

    Raises:
        UserError: its entries are damaged.
    """
    priors = [own.prior for own in _read(header).values() if own.prior is not None]
    return list({prior.canonical(): prior for prior in priors}.values())


def with_planned_entries(records: Mapping[str, Record], header: Mapping[str, Any]) -> dict[str, Record]:
    """The records that study.json has entries of, each with its entries as the study last planned them.

    Ids, and so what trials are, do not depend on them: labels and paths may have changed since. Tasks keep
    the text of the record, by which the rows per example are found.

    Raises:
        UserError: the entries of study.json are damaged.
    """
    planned = _read(header)
    return {trial: _with(record, planned[trial]) for trial, record in records.items() if trial in planned}


@dataclass(frozen=True)
class _Own:
    """The entries and probes of one trial."""

    task: Entry
    method: Entry
    prior: Entry | None
    regularisers: tuple[Entry, ...]
    also: tuple[Entry, ...]
    probes: tuple[Probe, ...]


def _read(header: Mapping[str, Any]) -> dict[str, _Own]:
    """What `entries_of` has written, by trial; empty in files from before.

    Raises:
        UserError: it is damaged.
    """
    if ENTRIES not in header:
        return {}
    try:
        known = [
            Entry.model_validate(value["entry"]).shown_as(Shown(**value["shown"]))
            for value in header[ENTRIES]["known"]
        ]
        return {
            trial: _Own(
                known[own["task"]],
                known[own["method"]],
                None if own["prior"] is None else known[own["prior"]],
                tuple(known[i] for i in own["regularisers"]),
                tuple(known[i] for i in own["also"]),
                tuple(own.get("probes", ())),
            )
            for trial, own in header[ENTRIES]["trials"].items()
        }
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"study.json is damaged: its '{ENTRIES}' cannot be read ({type(error).__name__}); run the study "
            "again, which writes it anew"
        ) from None


def _with(record: Record, own: _Own) -> Record:
    task = record.spec.task.shown_as(own.task.shown)
    # The own task among the others keeps the record's text too, or it would be one that was not measured.
    also = tuple(task if other.canonical() == own.task.canonical() else other for other in own.also)
    shown = {entry.canonical(): entry.shown for entry in (task, *also)}
    spec = record.spec.model_copy(
        update={
            "task": task,
            "method": own.method,
            "prior": own.prior,
            "regularisers": own.regularisers,
            "evaluation": record.spec.evaluation.model_copy(update={"also": also, "probes": own.probes}),
        }
    )
    others = tuple(
        other.model_copy(update={"task": other.task.shown_as(shown.get(text, other.task.shown))})
        for other in record.also
        for text in [other.task.canonical()]
    )
    return record.model_copy(update={"spec": spec, "also": others})
