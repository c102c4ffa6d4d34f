"""One MLflow run per study and one nested run per trial, written by the driver alone.

The results folder is authoritative and MLflow a copy of it: live points are sent as they come, and what
could not be sent then is sent from the records, at the end or at the next run of the study. A trial's
run is looked up by trial id before one is created, so retries and resumed studies never create a second.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softprior.errors import hidden
from softprior.inputs.labels import labels, names, numbered
from softprior.inputs.specs import Spec, StudySpec, TrialSpec
from softprior.results.folder import StudyFolder
from softprior.results.provenance import SOURCES, code
from softprior.results.records import Record, Score, StepPoint
from softprior.results.storage import Location, listed, local_copy
from softprior.tracking.client import BATCH, PARAMETERS, open_experiment, problem_of
from softprior.training.environment import versions
from softprior.training.events import Event, Observer, Step, Validation

STUDY = "study"
PARENT = "softprior.study"
"""Tag of a study's own run."""

STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class MlflowTracker(Observer):
    """An observer of a study that writes to MLflow from a thread of its own.

    Attributes:
        uri: where to, without a password, to be shown.
        problem: what could not be sent, if anything.
        notes: what a user should know, one sentence each.
    """

    def __init__(
        self, uri: str, study: StudySpec, trials: tuple[TrialSpec, ...], folder: StudyFolder
    ) -> None:
        self.uri = hidden(uri)
        self.problem: str | None = None
        self.notes: tuple[str, ...] = ()
        self._address = uri
        self._study = study
        self._trials = trials
        self._folder = folder
        self._queue: queue.Queue[_Message] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def progress(self, trial: TrialSpec, events: Sequence[Event]) -> None:
        self._queue.put(_Told(trial, events))

    def ended(self, record: Record) -> None:
        self._queue.put(_Ended(record))

    def added(self, trials: Sequence[TrialSpec]) -> None:
        self._trials = tuple(trials)
        self._queue.put(_Added(self._trials))

    def close(self, records: Mapping[str, Record] | None, metrics: Mapping[str, float] | None = None) -> None:
        """Sends whatever is missing, ends the study's run, and waits for it; see `Observer.close`.

        Afterwards `problem` says what could not be sent, if anything.
        """
        self._queue.put(_Detach() if records is None else _Close(records, metrics or {}))
        self._thread.join()

    def _work(self) -> None:
        writer: _Writer | None = None
        while True:
            message = self._queue.get()
            if isinstance(message, _Detach):
                return
            last = isinstance(message, _Close)
            try:
                # After a failure only the end is tried again: every call to a server that is away
                # waits for its retries, and the records contain everything.
                if self.problem is None or last:
                    if writer is None:
                        writer = _Writer(self._address, self._study, self._trials, self._folder)
                        self.notes = tuple(dict.fromkeys((*self.notes, *writer.notes)))
                    writer.take(message)
                    self.problem = None
            except Exception as error:
                self.problem = problem_of(error)
                writer = None
            if last:
                return


@dataclass(frozen=True)
class _Told:
    """What a running trial reported."""

    trial: TrialSpec
    events: Sequence[Event]


@dataclass(frozen=True)
class _Ended:
    """A trial has ended."""

    record: Record


@dataclass(frozen=True)
class _Added:
    """All trials of a search so far."""

    trials: tuple[TrialSpec, ...]


@dataclass(frozen=True)
class _Close:
    """The study has ended: all records, and what was measured over all of them."""

    records: Mapping[str, Record]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class _Detach:
    """The runs now belong to another process."""


_Message = _Told | _Ended | _Added | _Close | _Detach


@dataclass
class _Run:
    """What MLflow has of one trial: the run, its name and status, sources of the code, last steps sent."""

    id: str
    name: str
    status: str
    sources: str | None
    trained: int = 0
    validated: int = -1


class _Writer:
    """Calls MLflow, which is asked what it already has, so that no second copy of that can go stale."""

    def __init__(
        self, uri: str, study: StudySpec, trials: tuple[TrialSpec, ...], folder: StudyFolder
    ) -> None:
        name = f"softprior/{study.name}"
        self._client, self._experiment, self.notes = open_experiment(uri, name, folder.root.parent)
        self._study = study
        self._trials = trials
        self._folder = folder
        self._labels = labels(trials)
        self._existing = self._find_runs()
        self._rename()
        self._runs: dict[str, _Run] = {}
        known = self._existing.get(STUDY)
        self._parent = known.id if known else self._new_parent()
        self._client.update_run(self._parent, status="RUNNING")
        self._tag(self._parent, {**self._facts(), **_made({}), "mlflow.note.content": study.description})

    def take(self, message: _Message) -> None:
        """Handles one message of the queue."""
        match message:
            case _Told():
                self._told(message.trial, message.events)
            case _Ended():
                self._record(message.record)
            case _Added():
                self._trials, self._labels = message.trials, labels(message.trials)
            case _Close():
                self._close(message.records, message.metrics)

    def _close(self, records: Mapping[str, Record], metrics: Mapping[str, float]) -> None:
        self._rename()
        for record in records.values():
            known = self._runs.get(record.id) or self._existing.get(record.id)
            sent = known is not None and known.sources == record.environment.get("sources")
            if known is None or not sent or known.status != STATUS[record.status]:
                self._record(record)
        pending = {trial.id for trial in self._trials} - set(records)
        for trial in pending & set(self._existing):
            if self._existing[trial].status != "KILLED":
                self._end(self._existing[trial], "KILLED")  # going on sets it running again
        if self._folder.table.exists():
            self._artifact(self._parent, self._folder.table)
        self._artifact(self._parent, self._folder.study)
        for path in listed(self._folder.search, "*"):
            self._artifact(self._parent, path, "search")
        self._log(self._parent, [(name, value, 0) for name, value in metrics.items()])
        failed = any(record.status == "failed" for record in records.values())
        status = "KILLED" if pending else "FAILED" if failed else "FINISHED"
        self._client.set_terminated(self._parent, status=status)

    def _find_runs(self) -> dict[str, _Run]:
        """The runs of this study by trial id, and the study's own under `STUDY`.

        A job of the same name that has no trials keeps its run in the same experiment.
        """
        found: dict[str, _Run] = {}
        token = None
        while True:
            page = self._client.search_runs([self._experiment], page_token=token)
            for run in page:
                tags = run.data.tags
                name = tags.get("softprior.trial") or (STUDY if PARENT in tags else None)
                if name is not None:
                    info = run.info
                    found[name] = _Run(info.run_id, info.run_name, info.status, tags.get("sources"))
            token = page.token
            if not token:
                return found

    def _create_run(self, key: str, name: str, tags: dict[str, str]) -> str:
        run = str(self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id)
        self._existing[key] = _Run(run, name, "RUNNING", tags.get("sources"))
        return run

    def _new_parent(self) -> str:
        """The study's run; if the former one was deleted, trials are moved below the new one."""
        orphans = list(self._existing.values())
        run = self._create_run(STUDY, self._study.name, {PARENT: self._study.name})
        for orphan in orphans:
            self._client.set_tag(orphan.id, "mlflow.parentRunId", run)
        return run

    def _rename(self) -> None:
        """A trial's label depends on what else the study has, which changes from one run to the next."""
        for trial, label in self._labels.items():
            run = self._existing.get(trial)
            if run is not None and run.name != label:
                self._client.update_run(run.id, name=label)
                run.name = label

    def _facts(self) -> dict[str, str]:
        """The tags of every run."""
        tags = {"model": self._study.model.id, "dtype": self._study.model.dtype}
        return tags | {"model_fingerprint": self._trials[0].model_fingerprint}

    def _trial(self, trial: TrialSpec, sources: str | None) -> _Run:
        """A trial's run: found or created, described, and with the last steps that were sent.

        MLflow keeps old points beside new ones, so a run with other code's numbers is created again.

        Args:
            sources: of the code whose numbers are to be sent.
        """
        if trial.id in self._runs:
            return self._runs[trial.id]
        known = self._existing.get(trial.id)
        if known is not None and known.sources != sources:
            self._client.delete_run(known.id)
            known = None
        if known is None:
            tags = {"softprior.trial": trial.id, "mlflow.parentRunId": self._parent}
            tags |= {} if sources is None else {"sources": sources}
            self._parameters(self._create_run(trial.id, self._labels[trial.id], tags), _flat(trial))
            known = self._existing[trial.id]
        self._tag(known.id, {**self._facts(), "data_fingerprint": trial.data_fingerprint})
        known.trained = max(self._steps(known.id, "train_loss"), default=0)
        known.validated = max(self._steps(known.id, "validation_loss"), default=-1)
        self._runs[trial.id] = known
        return known

    def _steps(self, run: str, name: str) -> list[int]:
        return [int(metric.step) for metric in self._client.get_metric_history(run, name)]

    def _end(self, run: _Run, status: str) -> None:
        self._client.set_terminated(run.id, status=status)
        run.status = status

    def _told(self, trial: TrialSpec, events: Sequence[Event]) -> None:
        run = self._trial(trial, SOURCES)
        if run.status != "RUNNING":
            self._client.update_run(run.id, status="RUNNING")
            run.status = "RUNNING"
        points = [event.point for event in events if isinstance(event, Step)]
        scores = [event.score for event in events if isinstance(event, Validation)]
        self._metrics(run, _curves(points, scores))

    def _record(self, record: Record) -> None:
        """Sends what has not been sent yet of a trial that has ended."""
        run = self._trial(record.spec, record.environment.get("sources"))
        run.sources = record.environment.get("sources")
        self._tag(run.id, _made(record.environment))
        self._metrics(run, _curves(record.steps, record.validation))
        if record.test is not None:
            self._log(
                run.id, [(name, value, record.test.step) for name, value in _end_metrics(record).items()]
            )
        self._tag(run.id, {"error": hidden(record.error or "")[:5000]})
        folder = self._folder
        examples, posterior = folder.examples(record.id), folder.posterior(record.id)
        for path in (posterior, examples, folder.figure(record.id), folder.record(record.id)):
            if path.exists():
                self._artifact(run.id, path)
        self._end(run, STATUS[record.status])

    def _metrics(self, run: _Run, values: list[tuple[str, float | None, int]]) -> None:
        """Logs the points behind the last step sent: a resumed trial reports some steps twice."""
        trained = [v for v in values if not v[0].startswith("validation_") and v[2] > run.trained]
        validated = [v for v in values if v[0].startswith("validation_") and v[2] > run.validated]
        self._log(run.id, trained + validated)
        run.trained = max([run.trained, *(step for _, _, step in trained)])
        run.validated = max([run.validated, *(step for _, _, step in validated)])

    def _log(self, run: str, values: list[tuple[str, float | None, int]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value, step in values if value is not None]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run, metrics=metrics[start : start + BATCH])

    def _artifact(self, run: str, path: Location, folder: str | None = None) -> None:
        with local_copy(path) as here:
            self._client.log_artifact(run, str(here), folder)

    def _tag(self, run: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(run, tags=[RunTag(name, value) for name, value in tags.items()])

    def _parameters(self, run: str, values: dict[str, object]) -> None:
        from mlflow.entities import Param

        found = [Param(name, hidden(str(value))[:6000]) for name, value in values.items()]
        for start in range(0, len(found), PARAMETERS):
            self._client.log_batch(run, params=found[start : start + PARAMETERS])


def _made(environment: Mapping[str, Any]) -> dict[str, str]:
    """Versions and code as tags: a record's, or those of this process while there is no record."""
    known: Mapping[str, Any] = environment or {"versions": versions(), **code()}
    tags = {f"version.{name}": value for name, value in known.get("versions", {}).items()}
    tags["commit"] = known.get("commit") or "unknown"
    return tags | ({"sources": known["sources"]} if "sources" in known else {})


def _curves(points: Sequence[StepPoint], scores: Sequence[Score]) -> list[tuple[str, float | None, int]]:
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


def _end_metrics(record: Record) -> dict[str, float | None]:
    """What is measured once, at the end: the test split and the geometry of every place."""
    assert record.test is not None
    values: dict[str, float | None] = {
        "test_loss": record.test.loss,
        "test_accuracy": record.test.accuracy,
        "test_shuffled_loss": record.test.shuffled_loss,
        "untrained_loss": None if record.untrained is None else record.untrained.loss,
        **{f"test_{name}": value for name, value in record.test.metrics.items()},
    }
    known = names(found.task for found in record.also)
    for found in record.also:
        if found.score is not None:
            # MLflow takes no brackets or commas.
            name = re.sub(r"[^\w.-]+", "_", known[found.task.canonical()]).strip("_")
            score = {"loss": found.score.loss, "accuracy": found.score.accuracy, **found.score.metrics}
            values |= {f"also_{name}_{number}": value for number, value in score.items()}
    for place, geometry in record.geometry.items():
        values |= {f"{name}/{place}": value for name, value in geometry.model_dump().items()}
    return values


def _flat(trial: TrialSpec) -> dict[str, object]:
    """A trial's parameters by readable names: `prior`, `prior.scale`, `training.steps`."""
    flat: dict[str, object] = {"model": trial.model, "dtype": trial.dtype, "seed": trial.seed}
    flat["rate"] = None if trial.rate is None else trial.rate.label
    for axis in ("method", "prior", "task"):
        entry = getattr(trial, axis)
        flat[axis] = None if entry is None else entry.name
        flat |= {f"{axis}.{name}": value for name, value in ({} if entry is None else entry.params).items()}
    # As their metrics are named: `train_penalty_domain-2` is what `regulariser.domain-2` made.
    terms = numbered([entry.name for entry in trial.regularisers])
    for term, entry in zip(terms, trial.regularisers, strict=True):
        flat |= {f"regulariser.{term}.{name}": value for name, value in entry.params.items()}
    for group in ("training", "evaluation"):
        spec: Spec | None = getattr(trial, group)
        flat |= {
            f"{group}.{name}": value for name, value in ({} if spec is None else spec.model_dump()).items()
        }
    return {name: value for name, value in flat.items() if value is not None}
