"""What MLflow has of a trial: parameters, tags and metrics by readable names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from softprior.errors import hidden
from softprior.inputs.base import Spec
from softprior.inputs.entry_texts import leaves, names
from softprior.inputs.labels import numbered
from softprior.inputs.specs import TrialSpec
from softprior.methods import METHODS
from softprior.methods.base import PlacedMethod
from softprior.results.means import over_places
from softprior.results.provenance import code
from softprior.results.records import Record, Score, StepPoint
from softprior.tasks import TASKS
from softprior.training.environment import versions

LENGTH = 6000
"""Characters of a parameter that MLflow takes."""


def repeat_tag(trial: TrialSpec) -> dict[str, str]:
    """The tag of the run and the model of a repeated trial, none for other trials.

    `softprior.twin` or `softprior.reordered`: the id of the trial that it repeats, whose parameters it has.
    """
    return {} if trial.original is None else {f"softprior.{trial.repeat}": trial.original}


def made_by(environment: Mapping[str, Any]) -> dict[str, str]:
    """Versions and code as tags: a record's, or those of this process while there is no record."""
    known: Mapping[str, Any] = environment or {"versions": versions(), **code()}
    tags = {f"version.{name}": value for name, value in known.get("versions", {}).items()}
    tags["commit"] = known.get("commit") or "unknown"
    return tags | ({"sources": known["sources"]} if "sources" in known else {})


def curves(points: Sequence[StepPoint], scores: Sequence[Score]) -> list[tuple[str, float | None, int]]:
    """Steps and validations as metrics: name, value, step."""
    values: list[tuple[str, float | None, int]] = []
    for point in points:
        parts = {"loss": point.loss, "gradient": point.gradient, "moved": point.moved}
        parts |= {f"penalty_{name}": value for name, value in point.penalties.items()}
        values += [(f"train_{name}", value, point.step) for name, value in parts.items()]
    for score in scores:
        values.append(("validation_loss", score.loss, score.step))
        values.append(("validation_accuracy", score.accuracy, score.step))
    return values


def once(record: Record) -> dict[str, float | None]:
    """What is measured once, at the end: the test split, and means of the geometry over places.

    A record has the geometry of each place: sixty places of eight numbers compare nothing.
    """
    assert record.test is not None
    values: dict[str, float | None] = {
        "test_loss": record.test.loss,
        "test_accuracy": record.test.accuracy,
        "test_shuffled_loss": record.test.shuffled_loss,
        "untrained_loss": None if record.untrained is None else record.untrained.loss,
        **{f"test_{name}": value for name, value in record.test.metrics.items()},
        **later(record),
        **over_places(record.geometry),
    }
    return values


def later(record: Record) -> dict[str, float | None]:
    """What may be added to a trial whose run has ended: scores on other tasks, and probes."""
    return {**_others(record), **{name.replace("/", "_"): value for name, value in record.probed.items()}}


def _others(record: Record) -> dict[str, float | None]:
    """Scores on other tasks: `also_TASK_loss`, named alike by all trials of a study."""
    known = names([record.spec.task, *record.spec.evaluation.also, *(found.task for found in record.also)])
    values: dict[str, float | None] = {}
    for found in record.also:
        if found.score is not None:
            # MLflow takes no brackets or commas.
            name = re.sub(r"[^\w.-]+", "_", known[found.task.canonical()]).strip("_")
            score = {"loss": found.score.loss, "accuracy": found.score.accuracy, **found.score.metrics}
            values |= {f"also_{name}_{number}": value for number, value in score.items()}
    return values


def parameters(trial: TrialSpec) -> dict[str, str]:
    """A trial's parameters by readable names: `prior`, `prior.scale`, `training.steps`.

    A rate is a number, and `rate.relative` says of what kind it is, so that charts have an axis of numbers.
    Parameters inside of others have names of their own: `prior.priors.1.scale`.
    """
    flat: dict[str, object] = {"model": trial.model, "dtype": trial.dtype, "seed": trial.seed}
    if trial.rate is not None:
        flat["rate"] = trial.rate.value
        flat |= {"rate.relative": True} if trial.rate.relative else {}
    for axis in ("method", "prior", "task"):
        entry = getattr(trial, axis)
        flat |= {} if entry is None else dict(leaves(axis, entry.model_dump()))
    flat["task"] = TASKS.named(trial.task)  # trials write `cloze` as a mode of `language`
    kind = METHODS.kind(trial.method)
    if kind is not None and issubclass(kind, PlacedMethod):
        # Ids leave the default out, and a filter on the parameter would find the other placement alone.
        flat.setdefault("method.placement", kind.model_fields["placement"].default)
    # As their metrics are named: `train_penalty_domain-2` is what `regulariser.domain-2` made.
    terms = numbered([entry.name for entry in trial.regularisers])
    for term, entry in zip(terms, trial.regularisers, strict=True):
        for name, value in entry.params.items():
            flat |= dict(leaves(f"regulariser.{term}.{name}", value))
    for group in ("training", "evaluation"):
        spec: Spec | None = getattr(trial, group)
        flat |= {} if spec is None else dict(leaves(group, spec.model_dump()))
    return {name: hidden(str(value))[:LENGTH] for name, value in flat.items() if value is not None}
