"""What a finished trial catches up on without being trained again: other tasks, and probes of its prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from softprior.inputs.specs import TrialSpec
from softprior.results.records import Record
from softprior.training import also, probes
from softprior.training.events import Report

if TYPE_CHECKING:
    from softprior.training.trial import Trial


def lasting(spec: TrialSpec) -> bool:
    """Whether a trial asks for anything that a finished one may lack."""
    return bool(also.other_tasks(spec) or probes.probes_of(spec))


def lacks(spec: TrialSpec, record: Record, known: Mapping[str, str]) -> bool:
    """Whether a finished trial lacks some of it.

    Args:
        known: the fingerprints that tasks have now, see `also.current`.
    """
    return bool(also.missing(spec, record, known) or probes.unprobed(spec, record))


def whole(record: Record) -> bool:
    """Whether a trial lacks none of it; one that has not finished lacks other things.

    Args:
        record: with the spec that its study has now.
    """
    return not also.lacking(record) and not probes.lacking(record)


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
    record = trial.others.extend(record, trial.folder, report)
    if not probes.unprobed(trial.spec, record):  # a prober reads the trial's own task, which may be gone
        return record
    return trial.prober.extend(record, trial.folder, report)


def not_extended(spec: TrialSpec, record: Record, reason: str) -> Record:
    """The record of a finished trial that should have been measured and was not."""
    return probes.not_probed(spec, also.not_extended(spec, record, reason), reason)
