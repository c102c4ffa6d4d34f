"""What a study planned before its first trial had finished: seeds, priors and steps, as in study.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from softprior.errors import UserError
from softprior.inputs.base import Spec
from softprior.inputs.entry_texts import names
from softprior.inputs.specs import TrialSpec


class PlannedPrior(Spec):
    """A prior of a cell.

    Attributes:
        called: its name among the study's priors.
        entry: name and parameters, without the paths of files.
        files: fingerprint of what it reads from files.
    """

    called: str
    entry: dict[str, Any]
    files: str | None = None


class PlannedCell(Spec):
    """A combination of task, method and regularisers, without the paths of files.

    Attributes:
        priors: those that its prompts start from.
        steps: of training; None in designs from before they had them.
    """

    task: dict[str, Any]
    method: dict[str, Any]
    regularisers: tuple[dict[str, Any], ...]
    priors: tuple[PlannedPrior, ...]
    steps: int | None = None


class Design(Spec):
    """The seeds, priors and steps of a study, as study.json has them."""

    seeds: tuple[int, ...]
    cells: tuple[PlannedCell, ...]


class Key(NamedTuple):
    """What identifies a planned prior, as JSON texts: its cell, and the prior with its files."""

    cell: str
    prior: str


Expected = Mapping[str, Mapping[str, str]]
"""What planned priors are called, by `Key.cell` and `Key.prior`."""


def design_of(trials: Iterable[TrialSpec]) -> Design:
    """The design of trials with a trained prompt; a repeated trial is not a seed, nor a prior, of its own."""
    trained = [t for t in trials if t.prior is not None and t.seed is not None and t.repeat is None]
    called = names(trial.prior for trial in trained if trial.prior is not None)
    cells: dict[str, PlannedCell] = {}
    priors: dict[str, dict[str, PlannedPrior]] = {}
    for trial in trained:
        assert trial.prior is not None
        value = trial.without_paths()
        key = _key_of(trial, value)
        cells[key.cell] = PlannedCell(
            task=value["task"],
            method=value["method"],
            regularisers=value["regularisers"],
            priors=(),
            steps=None if trial.training is None else trial.training.steps,
        )
        priors.setdefault(key.cell, {})[key.prior] = PlannedPrior(
            called=called[trial.prior.canonical()], entry=value["prior"], files=trial.prior_fingerprint
        )
    return Design(
        seeds=tuple(dict.fromkeys(trial.seed for trial in trained if trial.seed is not None)),
        cells=tuple(
            cell.model_copy(update={"priors": tuple(priors[key].values())}) for key, cell in cells.items()
        ),
    )


def read_design(value: object, path: object) -> Design | None:
    """The design in study.json; None in files from before there was one.

    Raises:
        UserError: it is damaged.
    """
    if value is None:
        return None
    try:
        return Design.model_validate(json.loads(json.dumps(value)))
    except ValidationError:
        raise UserError(
            f"{path} is damaged: its design does not name seeds and priors; restore the file, or remove the "
            "key design (seeds and priors that were added later are then not recognised as such)"
        ) from None


def key_of(trial: TrialSpec) -> Key:
    """The key of a trial with a prior."""
    return _key_of(trial, trial.without_paths())


def _key_of(trial: TrialSpec, value: Mapping[str, Any]) -> Key:
    cell = [value["task"], value["method"], value["regularisers"]]
    return Key(_text(cell), _text([value["prior"], trial.prior_fingerprint]))


def expected(designs: Iterable[Design], trials: Iterable[TrialSpec]) -> Expected:
    """The priors of designs, and those of trials that ran, however they ended."""
    found: dict[str, dict[str, str]] = {}
    for design in (*designs, design_of(trials)):
        for cell in design.cells:
            own = found.setdefault(_key(cell), {})
            for prior in cell.priors:
                own.setdefault(_text([prior.entry, prior.files]), prior.called)
    return found


def planned_steps(design: Design) -> dict[str, int]:
    """The steps that were planned in each cell, by `Key.cell`; not those of designs that do not have them."""
    return {_key(cell): cell.steps for cell in design.cells if cell.steps is not None}


def _key(cell: PlannedCell) -> str:
    return _text([cell.task, cell.method, cell.regularisers])


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)
