"""Going on with a finished trial: one that differs in nothing but more steps starts where it ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from torch import Tensor

from softprior.inputs.specs import TrialSpec
from softprior.results.folder import StudyFolder
from softprior.results.provenance import SOURCES
from softprior.results.records import Continued, load_records
from softprior.results.storage import Location, listed
from softprior.training.checkpoint import TrialState, load_checkpoint, load_header

OTHER_CODE = "starts from scratch: the {step}-step trial it could have continued was trained by other code"
"""What is said where a checkpoint was kept and is not used."""


def kept_checkpoint(folder: StudyFolder, spec: TrialSpec) -> Location:
    """Where the last checkpoint of a trial stays, if it is to be kept."""
    assert spec.training is not None
    return folder.kept(_of_steps(spec, 1).id, spec.training.steps)


class KeptCheckpoint(NamedTuple):
    """The kept checkpoint of a trial's last step."""

    trial: str
    step: int
    path: Location


def earlier(folder: StudyFolder, spec: TrialSpec) -> tuple[TrialState, dict[str, Tensor]] | str | None:
    """The state and the optimizer's tensors of what `longest` finds, or what else it returns."""
    found = longest(folder, spec)
    if found is None or isinstance(found, str):
        return found
    loaded = load_checkpoint(found.path, found.trial)
    if loaded is not None:
        loaded[0].continued = Continued(trial=found.trial, step=found.step)
    return loaded


def longest(folder: StudyFolder, spec: TrialSpec) -> KeptCheckpoint | str | None:
    """The end of the longest trial of fewer steps whose last checkpoint was kept, found by headers alone.

    Returns:
        Where it is, a sentence that says why that is not used, or None where there is none.
    """
    training = spec.training
    if training is None or training.schedule != "constant":
        return None  # at another number of steps, each step had another rate
    series = _of_steps(spec, 1).id
    said = None
    for step in _steps(folder, series, training.steps):
        trial = _of_steps(spec, step).id
        path = folder.kept(series, step)
        header = load_header(path, trial)
        if header is None or header.step != step:
            continue
        if set(header.sources) <= {SOURCES}:
            return KeptCheckpoint(trial, step, path)
        said = said or OTHER_CODE.format(step=step)
    return said


def without_checkpoint(folder: StudyFolder, trials: Iterable[TrialSpec], known: Collection[str]) -> int:
    """How many finished trials differ from one of these only in having fewer steps.

    Args:
        trials: those for which `longest` finds nothing.
        known: ids of trials whose records are not looked at.
    """
    others = [r.spec for r in load_records(folder.records, known).values() if r.status == "finished"]
    if not others:
        return 0
    steps = {
        _of_steps(trial, 1).id: trial.training.steps
        for trial in trials
        if trial.training is not None and trial.training.schedule == "constant"
    }
    return sum(
        spec.training.steps < steps.get(_of_steps(spec, 1).id, 0)
        for spec in others
        if spec.training is not None
    )


def any_kept(folder: StudyFolder) -> bool:
    """Whether any trial's last checkpoint was kept."""
    return bool(listed(folder.kept("any", 1).parent, "*"))


def _steps(folder: StudyFolder, series: str, below: int) -> list[int]:
    """The numbers of steps of a series' kept checkpoints, the largest first."""
    names = (path.stem.rpartition("-")[2] for path in listed(folder.kept(series, 1).parent, f"{series}-*"))
    found = (int(name) for name in names if name.isdecimal())
    return sorted((step for step in found if step < below), reverse=True)


def _of_steps(spec: TrialSpec, steps: int) -> TrialSpec:
    """The same trial with another number of steps."""
    assert spec.training is not None
    return spec.model_copy(update={"training": spec.training.model_copy(update={"steps": steps})})
