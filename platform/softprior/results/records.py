"""The record of a trial: what ran, what came out, and with which versions. One JSON file per trial."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator
from pydantic.dataclasses import dataclass

from softprior.errors import UserError
from softprior.inputs.base import Spec
from softprior.inputs.entries import Entry
from softprior.inputs.specs import TrialSpec
from softprior.inputs.validation import path_of
from softprior.results.digested import DIGEST, digested_text, read_header, write_digested
from softprior.results.probed import PROBE_NUMBERS, Probed
from softprior.results.sanity import SUPERSEDED, Check
from softprior.results.storage import Location, listed

RECORD_FORMAT = 1
"""Version of the layout, also written out in `Record.format`."""

READERS = 16
"""Number of objects that are read from an object store at a time."""


@dataclass(frozen=True, kw_only=True, slots=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class StepPoint:
    """One optimizer step; a dataclass, as a study of a thousand trials has a million of them.

    Attributes:
        step: counted from 1.
        loss: mean over the step's own label tokens before the update, in nats, whatever the gradient is
            divided by. The mean over steps, each weighted with `labels`, is that over all label tokens.
        labels: label tokens of the step; null in records made before they were counted.
        rate: learning rate of the step (before a relative rate's factor).
        gradient: L2 norm of the whole gradient, normalised, before clipping.
        moved: mean distance of the vectors from their start, over places.
        penalties: each regulariser's value times its weight, apart from the loss.
    """

    step: int
    loss: float
    labels: int | None = None
    rate: float
    gradient: float
    moved: float
    penalties: dict[str, float] = Field(default_factory=dict)


class Score(Spec):
    """An evaluation on one split.

    Attributes:
        step: optimizer steps taken before it.
        loss: mean over label tokens, in nats.
        accuracy: teacher-forced first choices that were right, over scored tokens.
        shuffled_loss: the loss with contexts swapped between examples; null for tasks without.
        metrics: means of the task's metrics over generated answers.
        examples, tokens, generated: what the numbers are based on.
    """

    step: int
    loss: float
    accuracy: float | None
    shuffled_loss: float | None = None
    metrics: dict[str, float] = {}
    examples: int
    tokens: int
    generated: int = 0


class PlaceGeometry(Spec):
    """Where the vectors of one place went; means over the P vectors.

    Attributes:
        moved: Euclidean distance from the initial sample.
        reach: how far a constant gradient would have carried a vector (`geometry.reach`), a yardstick, not
            a bound; null for reparameterised prompts, which the weights of a network carry along.
        moved_over_reach: their ratio; above 1 where gradients grew.
        initial_norm, final_norm: Euclidean norms.
        cosine: mean pairwise cosine of the final vectors, for cut places after the block's norm, for
            keys before rotary.
        participation: effective number of directions of the same, at most P - 1.
        initial_radius, final_radius: Mahalanobis radius as a quantile of the vocabulary's own radii
            (for cut places, all after the block's norm; for keys and values, of what the block makes of
            the vocabulary's embeddings); null for residual vectors at deeper blocks.
    """

    moved: float
    reach: float | None
    moved_over_reach: float | None
    initial_norm: float
    final_norm: float
    cosine: float | None
    participation: float | None
    initial_radius: float | None = None
    final_radius: float | None = None


class TaskScore(Spec):
    """A trial's final prompt on the test split of another task, or why there is no such score.

    Attributes:
        task: the other task.
        fingerprint: identifies its data, and its code if it is not softprior's own.
        score: as of the trial's own task; null if it could not be measured.
        error: why not.
        data: number of test examples, dropped and quarantined ones, and the task's notes.
        sources: the code that measured it (`provenance.SOURCES`), perhaps later than the trial's.
    """

    task: Entry
    fingerprint: str
    score: Score | None = None
    error: str | None = None
    data: dict[str, Any] = {}
    sources: str


class Continued(Spec):
    """Where a trial goes on from, which differs from it in nothing but fewer steps.

    Attributes:
        trial: its id.
        step: the steps it took, which are the first of this trial.
    """

    trial: Annotated[str, Field(alias="from")]
    step: int

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)


class Cost(Spec):
    """What a trial took, over all its attempts; attempts count up to their last checkpoint.

    Attributes:
        values: number of trained values, those of a reparameterisation's network included; 0 for baselines.
        positions: text positions that went forward and backward.
        per_second: such positions per second of the phase `training`; null without one.
        seconds: by phase: `data`, `prior`, `training`, `validation`, `test`, `other tasks`, `geometry`,
            `sanity`, and `probes` if there are any; `start` if the trial computed the losses of its start
            (before, they were in `validation` and `test`), and `waiting` if it waited for another one that
            did, which is no work. Loading the model and writing files are in none.
        memory: peak resident memory of the trial's process during the last attempt, in bytes, with the
            model's weights if the trial holds them; null where the system does not say.
        gpu_memory: peak memory of tensors on the trial's own GPU, in bytes; null without one, as for the
            clients of shared hosts.
    """

    values: int
    positions: int
    per_second: float | None
    seconds: dict[str, float]
    memory: int | None
    gpu_memory: int | None


class Prediction(Spec):
    """One generated answer of the test split."""

    example: str
    answer: str


class Record(Spec):
    """Everything known about one trial.

    Attributes:
        label: the trial's axes in words, without what distinguishes it from other trials of a study.
        status: `finished`, `failed`, or `stopped` by a search before its end (no test, no posterior); a trial
            without a record has not ended.
        error: why it failed or was stopped, with the step.
        steps: every optimizer step taken.
        validation: the curve; the first point is the untrained sample.
        untrained: the initial sample on the test split, for the same comparison as `test`.
        test: read once, at the end.
        also: the final prompt on other tasks, which `evaluation.also` names.
        probes: the final prompt changed in the ways that `evaluation.probes` names.
        examples: number of rows in the trial's file of examples; null in records from before there was one.
        cost: what it took; null in records from before it was measured.
        sanity: checks of a finished trial; empty in records from before there were any.
        continued: which trial it went on from; null if it began at its first step.
        geometry: by `Place.name`.
        prior: by `Place.name`: facts of the fit, and `radius_quantiles`, each sampled vector's Mahalanobis
            radius as a quantile of the data's.
        data: examples per split, dropped and quarantined rows.
        environment: versions, commit, host name, threads, seconds.
    """

    format: Literal[1] = 1
    id: str
    label: str
    spec: TrialSpec
    status: Literal["finished", "failed", "stopped"]
    error: str | None = None
    steps: tuple[StepPoint, ...] = ()
    validation: tuple[Score, ...] = ()
    untrained: Score | None = None
    test: Score | None = None
    also: tuple[TaskScore, ...] = ()
    probes: tuple[Probed, ...] = ()
    examples: int | None = None
    cost: Cost | None = None
    sanity: tuple[Check, ...] = ()
    continued: Continued | None = None
    geometry: dict[str, PlaceGeometry] = {}
    prior: dict[str, Any] = {}
    data: dict[str, Any] = {}
    predictions: tuple[Prediction, ...] = ()
    environment: dict[str, Any] = {}

    @property
    def probed(self) -> dict[str, float]:
        """The numbers of its probes, as `PROBE/NUMBER`."""
        return {
            f"{one.probe}/{name}": getattr(one.found, name)
            for one in self.probes
            if one.found is not None
            for name in PROBE_NUMBERS[one.probe]
        }

    @property
    def tasks(self) -> tuple[Entry, ...]:
        """The tasks that its rows per example are of."""
        return (self.spec.task, *(found.task for found in self.also))

    @field_validator("spec", mode="before")
    @classmethod
    def _as_trained(cls, spec: object) -> object:
        """Before `normalisation` was a choice, each step divided by its own number of labels."""
        if isinstance(spec, dict) and isinstance(spec.get("training"), dict):
            return {**spec, "training": {"normalisation": "step", **spec["training"]}}
        return spec

    @field_validator("sanity")
    @classmethod
    def _still_made(cls, checks: tuple[Check, ...]) -> tuple[Check, ...]:
        return tuple(check for check in checks if check.name not in SUPERSEDED)


def save_record(path: Location, record: Record) -> None:
    """Writes a record atomically."""
    write_digested(path, record.model_dump(mode="json"))


def load_record(path: Location) -> Record:
    """Reads a record.

    Raises:
        UserError: the file is damaged, of another format, or the record of another trial than its name says.
    """
    try:
        record = Record.model_validate_json(digested_text(path))
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, not a record; remove it to run the trial again") from None
    except ValueError as error:
        raise UserError(
            f"{path} is not a record of format {RECORD_FORMAT} ({_fault(error)}); "
            "restore it, or delete it to run the trial again"
        ) from None
    if record.id != path.stem:
        raise UserError(
            f"{path} has the record of trial {record.id}, not of {path.stem}; "
            "restore it, or delete it to run the trial again"
        )
    return record


def _fault(error: ValueError) -> str:
    """What is wrong with a record."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return "it is not valid JSON"
    key = path_of(list(first["loc"]))
    if key == DIGEST:
        return "it is not as it was written"
    return f"{key} is missing, unknown or has a wrong value" if key else "it is not a JSON object"


def load_records(folder: Location, known: Collection[str] = ()) -> dict[str, Record]:
    """All records of a folder by trial id, except for those of the trials that are known."""
    paths = [path for path in listed(folder, "*.json") if path.stem not in known]
    if isinstance(folder, Path):
        return {path.stem: load_record(path) for path in paths}
    with ThreadPoolExecutor(READERS) as pool:  # a request each, of which nearly all is waiting
        return {path.stem: record for path, record in zip(paths, pool.map(load_record, paths), strict=True)}


def read_study(path: Location) -> dict[str, Any]:
    """What a study.json says: at least the study's `spec`, with its name, and its `trials`.

    Raises:
        UserError: it is damaged.
    """
    found = read_header(path, _REWRITTEN)
    spec, trials = found.get("spec"), found.get("trials")
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str) or not isinstance(trials, list):
        raise UserError(f"{path} is damaged: it lacks spec, spec.name or trials; {_REWRITTEN}")
    return found


_REWRITTEN = (
    "restore it, or delete it and run the study again, which keeps finished trials but no longer knows what "
    "was planned before them"
)
