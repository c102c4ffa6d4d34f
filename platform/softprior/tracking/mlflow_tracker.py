"""One MLflow run per study and one nested run per trial, written by the driver alone.

The results folder is authoritative and MLflow a copy of it: live points are sent as they come, and what
could not be sent then is sent from the records, at the end or at the next run of the study. A trial's
run is looked up by trial id before one is created, so retries and resumed studies never create a second.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from softprior.assets.progress import say
from softprior.errors import hidden
from softprior.inputs.labels import counted, labels
from softprior.inputs.specs import StudySpec, TrialSpec
from softprior.results.folder import StudyFolder
from softprior.results.provenance import SOURCES
from softprior.results.records import Record
from softprior.results.storage import Location, listed, local_copy
from softprior.tracking.client import BATCH, PARAMETERS, open_experiment, problem_of
from softprior.tracking.clock import end_run, now
from softprior.tracking.contents import curves, later, made_by, once, parameters, repeat_tag
from softprior.tracking.posteriors import posterior_of, posteriors_of
from softprior.tracking.studies import PARENT, PREFIX
from softprior.tracking.view import TRIAL, address, write_view
from softprior.training.events import Event, Observer, Step, Validation

STUDY = "study"
SILENT, SAID = 2.0, 15.0
"""Seconds at the end before a user is told what is still being sent, and between two such lines."""

STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class MlflowTracker(Observer):
    """An observer of a study that writes to MLflow from a thread of its own.

    Attributes:
        uri: where to, without a password, to be shown.
        page: the address of the view that compares the trials, from the server's on, once it is known.
        problem: what could not be sent, if anything.
        notes: what a user should know, one sentence each.
    """

    def __init__(
        self, uri: str, study: StudySpec, trials: tuple[TrialSpec, ...], folder: StudyFolder
    ) -> None:
        self.uri = hidden(uri)
        self.page: str | None = None
        self.problem: str | None = None
        self.notes: tuple[str, ...] = ()
        self._address = uri
        self._trials = trials
        self._folder = folder
        self._about = _About(study.name, study.description)
        self._queue: queue.Queue[_Message] = queue.Queue()
        self._ended = self._written = 0
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def progress(self, trial: TrialSpec, events: Sequence[Event]) -> None:
        self._queue.put(_Told(trial, events))

    def ended(self, record: Record) -> None:
        self._ended += 1
        self._queue.put(_Ended(record))

    def added(self, trials: Sequence[TrialSpec]) -> None:
        self._trials = tuple(trials)
        self._queue.put(_Added(self._trials))

    def close(self, records: Mapping[str, Record] | None, metrics: Mapping[str, float] | None = None) -> None:
        """Sends whatever is missing, ends the study's run, and waits for it; see `Observer.close`.

        Afterwards `problem` says what could not be sent, if anything.
        """
        self._queue.put(_Detach() if records is None else _Close(records, metrics or {}))
        self._thread.join(SILENT)
        while self._thread.is_alive():
            say(self._left())
            self._thread.join(SAID)

    def _left(self) -> str:
        """What a user waits for."""
        if self.problem is not None:
            return f"MLflow did not take everything; trying again: {self.problem}"
        if self._written < self._ended:
            return f"MLflow has {self._written:,} of {counted(self._ended, 'trial')}; sending the others"
        return "sending the last figures and tables to MLflow"

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
                        writer = _Writer(self._address, self._about, self._trials, self._folder)
                        self.page = writer.page
                        self.notes = tuple(dict.fromkeys((*self.notes, *writer.notes)))
                    writer.take(message)
                    self.problem = None
                    self._written += isinstance(message, _Ended)
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
    """What MLflow has of one trial: its run, with its name, status, start in milliseconds since 1970,
    sources of the code and values, and the last steps sent."""

    id: str
    name: str
    status: str
    start: int
    sources: str | None
    metrics: dict[str, float]
    trained: int = 0
    validated: int = -1


def _unsent(run: _Run, values: Mapping[str, float | None]) -> dict[str, float]:
    """Those that a run does not have yet: MLflow would keep both."""
    return {
        name: value for name, value in values.items() if value is not None and run.metrics.get(name) != value
    }


@dataclass(frozen=True)
class _About:
    """What the study's own run says of it."""

    name: str
    description: str


class _Writer:
    """Calls MLflow, which is asked what it already has, so that no second copy of that can go stale."""

    def __init__(self, uri: str, about: _About, trials: tuple[TrialSpec, ...], folder: StudyFolder) -> None:
        name = PREFIX + about.name
        self._client, self._experiment, self.notes = open_experiment(uri, name, folder.root.parent)
        self.page: str | None = None
        self._name = about.name
        self._trials = trials
        self._folder = folder
        self._labels = labels(trials)
        self._existing = self._find_runs()
        self._rename()
        self._runs: dict[str, _Run] = {}
        self._undrawn: dict[str, str] = {}
        """Runs without their figure, by trial."""
        known = self._existing.get(STUDY)
        self._abandoned = known is not None and known.status == "RUNNING"
        self._parent = known.id if known else self._new_parent()
        self._client.update_run(self._parent, status="RUNNING")
        self._tag(self._parent, {**self._facts(), **made_by({}), "mlflow.note.content": about.description})
        self._view()

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

    def _view(self) -> None:
        """Makes the view that compares the trials; a server that refuses it still gets the runs."""
        try:
            write_view(self._client, self._experiment, [parameters(trial) for trial in self._trials])
            self.page = address(self._experiment)
        except Exception as error:  # an older server takes shorter tags
            self.notes += (f"MLflow did not take the view that compares trials: {problem_of(error)}",)

    def _close(self, records: Mapping[str, Record], metrics: Mapping[str, float]) -> None:
        self._rename()
        self._view()
        for record in records.values():
            known = self._runs.get(record.id) or self._existing.get(record.id)
            sent = known is not None and known.sources == record.environment.get("sources")
            # Scores on other tasks and probes may have been added to a trial whose run had ended.
            if (
                known is None
                or not sent
                or known.status != STATUS[record.status]
                or _unsent(known, later(record))
            ):
                self._record(record)
        pending = {trial.id for trial in self._trials} - set(records)
        self._figures(records)
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
        end_run(self._client, self._parent, status, self._existing[STUDY].start)

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
                name = tags.get(TRIAL) or (STUDY if PARENT in tags else None)
                if name is not None:
                    info = run.info
                    sources, metrics = tags.get("sources"), dict(run.data.metrics)
                    found[name] = _Run(
                        info.run_id, info.run_name, info.status, info.start_time, sources, metrics
                    )
            token = page.token
            if not token:
                return found

    def _create_run(self, key: str, name: str, tags: dict[str, str]) -> str:
        start = now()
        made = self._client.create_run(self._experiment, start_time=start, run_name=name, tags=tags)
        run = str(made.info.run_id)
        self._existing[key] = _Run(run, name, "RUNNING", start, tags.get("sources"), {})
        return run

    def _new_parent(self) -> str:
        """The study's run; if the former one was deleted, trials are moved below the new one."""
        orphans = list(self._existing.values())
        run = self._create_run(STUDY, self._name, {PARENT: self._name})
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
        any_trial = self._trials[0]
        tags = {"model": any_trial.model, "dtype": any_trial.dtype}
        return tags | {"model_fingerprint": any_trial.model_fingerprint}

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
            for model in posteriors_of(self._client, self._experiment, known.id):
                self._client.delete_logged_model(model)
            self._client.delete_run(known.id)
            known = None
        if known is None:
            tags = {TRIAL: trial.id, "mlflow.parentRunId": self._parent}
            tags |= {} if sources is None else {"sources": sources}
            self._parameters(self._create_run(trial.id, self._labels[trial.id], tags), parameters(trial))
            known = self._existing[trial.id]
        data = {"data_fingerprint": trial.data_fingerprint}
        self._tag(known.id, {**self._facts(), **data, **repeat_tag(trial)})
        known.trained = max(self._steps(known.id, "train_loss"), default=0)
        known.validated = max(self._steps(known.id, "validation_loss"), default=-1)
        self._runs[trial.id] = known
        return known

    def _steps(self, run: str, name: str) -> list[int]:
        return [int(metric.step) for metric in self._client.get_metric_history(run, name)]

    def _end(self, run: _Run, status: str) -> None:
        end_run(self._client, run.id, status, run.start)
        run.status = status

    def _told(self, trial: TrialSpec, events: Sequence[Event]) -> None:
        run = self._trial(trial, SOURCES)
        if run.status != "RUNNING":
            self._client.update_run(run.id, status="RUNNING")
            run.status = "RUNNING"
        points = [event.point for event in events if isinstance(event, Step)]
        scores = [event.score for event in events if isinstance(event, Validation)]
        self._metrics(run, curves(points, scores))

    def _record(self, record: Record) -> None:
        """Sends what has not been sent yet of a trial that has ended."""
        run = self._trial(record.spec, record.environment.get("sources"))
        run.sources = record.environment.get("sources")
        self._tag(run.id, made_by(record.environment))
        self._metrics(run, curves(record.steps, record.validation))
        if record.test is not None:
            new = _unsent(run, once(record))
            # At the beginning: the pages draw a curve of one dot for what stands at another step.
            at_once = [(name, value, 0) for name, value in new.items()]
            self._log(run.id, at_once, self._posterior(run, record.spec))
            run.metrics |= new
        self._tag(run.id, {"error": hidden(record.error or "")[:5000]})
        folder = self._folder
        examples, posterior = folder.examples(record.id), folder.posterior(record.id)
        for path in (posterior, examples, folder.record(record.id)):
            if path.exists():
                self._artifact(run.id, path)
        self._drawn()
        if posterior.exists():
            self._undrawn[record.id] = run.id
        self._end(run, STATUS[record.status])

    def _drawn(self) -> None:
        """Sends the figures of trials that ended before: they are drawn in this order, some at a time."""
        while self._undrawn:
            trial, run = next(iter(self._undrawn.items()))
            figure = self._folder.figure(trial)
            if not figure.exists():
                return
            self._artifact(run, figure)
            del self._undrawn[trial]

    def _figures(self, records: Mapping[str, Record]) -> None:
        """Sends the figures that have not been sent, when all have been drawn.

        If an earlier driver did not live to do so, MLflow is asked which of its trials have theirs.
        """
        if self._abandoned:
            for trial in records.keys() & self._existing.keys() - self._undrawn.keys() - self._runs.keys():
                run, name = self._existing[trial].id, self._folder.figure(trial).name
                if not any(artifact.path == name for artifact in self._client.list_artifacts(run)):
                    self._undrawn[trial] = run
        self._undrawn = {t: run for t, run in self._undrawn.items() if self._folder.figure(t).exists()}
        self._drawn()

    def _posterior(self, run: _Run, trial: TrialSpec) -> str | None:
        """The logged model of a trial that has trained one."""
        if not self._folder.posterior(trial.id).exists():
            return None
        return posterior_of(self._client, self._experiment, run.id, trial, parameters(trial))

    def _metrics(self, run: _Run, values: list[tuple[str, float | None, int]]) -> None:
        """Logs the points behind the last step sent: a resumed trial reports some steps twice."""
        trained = [v for v in values if not v[0].startswith("validation_") and v[2] > run.trained]
        validated = [v for v in values if v[0].startswith("validation_") and v[2] > run.validated]
        self._log(run.id, trained + validated)
        run.trained = max([run.trained, *(step for _, _, step in trained)])
        run.validated = max([run.validated, *(step for _, _, step in validated)])

    def _log(
        self, run: str, values: Sequence[tuple[str, float | None, int]], model: str | None = None
    ) -> None:
        from mlflow.entities import Metric

        at = now()
        metrics = [
            Metric(name, value, at, step, model_id=model) for name, value, step in values if value is not None
        ]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run, metrics=metrics[start : start + BATCH])

    def _artifact(self, run: str, path: Location, folder: str | None = None) -> None:
        with local_copy(path) as here:
            self._client.log_artifact(run, str(here), folder)

    def _tag(self, run: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(run, tags=[RunTag(name, value) for name, value in tags.items()])

    def _parameters(self, run: str, values: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        found = [Param(name, value) for name, value in values.items()]
        for start in range(0, len(found), PARAMETERS):
            self._client.log_batch(run, params=found[start : start + PARAMETERS])
