"""What is measured on a finished trial without training it again: other tasks, and probes of its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.inputs.specs import Probe, TrialSpec
from softprior.results.examples import load_examples, rows_of, save_examples
from softprior.results.posteriors import load_posterior
from softprior.results.probed import Probed
from softprior.results.records import Record, TaskScore, save_record
from softprior.training import also, probes
from softprior.training.events import Report

if TYPE_CHECKING:
    from softprior.training.trial import Trial

NEVER = "its record does not say why"
"""The reason if there is neither a result nor another reason."""


class Extension(NamedTuple):
    """A finished trial that is to be measured further.

    Attributes:
        record: what it has left, with the spec that the study has now.
        due: the trial, asking only for what it lacks.
    """

    record: Record
    due: TrialSpec


class Lacking(NamedTuple):
    """What a finished trial has no result of, and why.

    Attributes:
        wanted: another task, or a probe.
    """

    wanted: Entry | Probe
    reason: str


def lasting(spec: TrialSpec) -> bool:
    """Whether a trial asks for anything that a finished one may lack."""
    return bool(also.other_tasks(spec) or probes.probes_of(spec))


def extensions(finished: Mapping[str, Record], specs: Mapping[str, TrialSpec]) -> dict[str, Extension]:
    """Which finished trials lack something that the study asks for now, by trial id.

    Args:
        specs: the trials as the study has them now, by trial id.
    """
    known = also.current(specs[trial] for trial in finished)
    found = {
        trial: Extension(record.model_copy(update={"spec": specs[trial]}), due(specs[trial], record, known))
        for trial, record in finished.items()
    }
    return {trial: extension for trial, extension in found.items() if lasting(extension.due)}


def due(spec: TrialSpec, record: Record, known: Mapping[str, str]) -> TrialSpec:
    """The trial, asking only for what a finished one lacks: other tasks, or their new data, and probes.

    Args:
        known: the fingerprints that tasks have now, see `also.current`.
    """
    left = {"also": also.missing(spec, record, known), "probes": probes.unprobed(spec, record)}
    return spec.model_copy(update={"evaluation": spec.evaluation.model_copy(update=left)})


def lacking(record: Record) -> list[Lacking]:
    """What a finished trial should have a result of and has not, on whatever data.

    Args:
        record: with the spec that its study has now, which may ask for less than an earlier one did.
    """
    if record.status != "finished":
        return []
    scores = {found.task.canonical(): found for found in record.also}
    found = []
    for entry in also.other_tasks(record.spec):
        score = scores.get(entry.canonical())
        if score is None or score.score is None:
            found.append(Lacking(entry, NEVER if score is None else score.error or NEVER))
    said = {one.probe: one.error for one in record.probes}
    return [*found, *(Lacking(p, said.get(p) or NEVER) for p in probes.unprobed(record.spec, record))]


def left_out(spec: TrialSpec, record: Record, untold: bool) -> bool:
    """Whether a finished trial lacks some of it, on the data that tasks have now.

    Args:
        untold: only if its record does not say why.
    """
    known = {
        found.task.canonical()
        for found in record.also
        if also.is_current(found) or (untold and found.error is not None)
    }
    known |= {one.probe for one in record.probes if one.error is None or untold}
    wanted = {*(entry.canonical() for entry in also.other_tasks(spec)), *probes.probes_of(spec)}
    return record.status == "finished" and not wanted <= known


def extend(trial: Trial, record: Record, report: Report) -> Record:
    """Measures a finished trial from its saved posterior; its own numbers stay as they are."""
    spec = trial.setup.spec
    tasks = also.missing(spec, record, also.current([spec]))
    if tasks:
        record = _measured(trial, record, tasks, report)
    wanted = probes.unprobed(spec, record)
    if wanted:  # a prober reads the trial's own task, which may be gone
        record = _probed(trial, record, wanted, report)
    return record


def _measured(trial: Trial, record: Record, tasks: Sequence[Entry], report: Report) -> Record:
    """Measures a trial on other tasks. Rows are written first, then the record.

    A record from before there were rows gets none of other tasks either: its file would lack those of its own
    task.
    """
    folder, trained = trial.folder, record.spec.training is not None
    try:
        prompt = load_posterior(folder.posterior(record.id)).final if trained else {}
        rows = None
        if record.examples is not None:
            rows = rows_of(load_examples(folder.examples(record.id), record.id, record.examples))
    except UserError as error:
        scores = [also.unmeasured(entry, str(error)) for entry in tasks]
    else:
        found = trial.setup.others.measure_all(tasks, prompt, len(record.steps), report)
        scores = [other.found for other in found]
        if rows is not None:
            rows |= {other.found.task.canonical(): other.rows for other in found}
            save_examples(folder.examples(record.id), record.id, rows)
            record = record.model_copy(update={"examples": sum(map(len, rows.values()))})
    return _save(trial, _extended(record, trial.setup.spec, scores=scores))


def _probed(trial: Trial, record: Record, wanted: Sequence[Probe], report: Report) -> Record:
    try:
        saved = load_posterior(trial.folder.posterior(record.id))
    except UserError as error:
        found: Sequence[Probed] = [probes.lost(probe, str(error)) for probe in wanted]
    else:
        step = len(record.steps)
        found = trial.setup.prober.measure_all(wanted, saved.initial, saved.final, step, report)
    return _save(trial, _extended(record, trial.setup.spec, probed=found))


def _save(trial: Trial, record: Record) -> Record:
    """Writes the record, and returns it."""
    save_record(trial.folder.record(record.id), record)
    return record


def not_extended(spec: TrialSpec, record: Record, reason: str) -> Record:
    """The record of a finished trial that should have been measured and was not."""
    scores = [also.unmeasured(entry, reason) for entry in also.other_tasks(spec)]
    probed = [probes.lost(probe, reason) for probe in probes.unprobed(spec, record)]
    return _extended(record, spec, scores, probed)


def _extended(
    record: Record, spec: TrialSpec, scores: Sequence[TaskScore] = (), probed: Sequence[Probed] = ()
) -> Record:
    """The record with further results; a reason does not replace a score on the same data.

    Reasons are left out that belong to what the trial need not be measured on any longer.
    """
    tasks, wanted = {entry.canonical() for entry in also.other_tasks(spec)}, probes.probes_of(spec)
    have = {
        text: found
        for found in record.also
        if (text := found.task.canonical()) in tasks or found.score is not None
    }
    for found in scores:
        old = have.get(found.task.canonical())
        if found.score is not None or old is None or not also.is_current(old):
            have[found.task.canonical()] = found
    kept = [one for one in record.probes if one.error is None or one.probe in wanted]
    changes = {
        "also": tuple(have.values()),
        "probes": tuple({one.probe: one for one in (*kept, *probed)}.values()),
        "spec": record.spec.model_copy(update={"evaluation": spec.evaluation}),
    }
    return record.model_copy(update=changes)
