"""One MLflow run a study and one below it a trial, written by the driver alone.

The results folder is the truth and MLflow a copy of it: live points are sent as they come, and what
could not be sent then follows from the records, at the end or at the next run of the study. A trial's
run is looked up by trial id before one is made, so retries and resumed studies never make a second.
"""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path
from typing import Any

from softprior.files import write_json
from softprior.records import Record, read_header
from softprior.results import StudyFolder
from softprior.specs import Spec, StudySpec, TrialSpec
from softprior.training.environment import commit, versions

BATCH = 1000
"""Metrics that one `log_batch` takes."""


def default_uri(results: Path) -> str:
    """An SQLite database beside the results folders of all studies."""
    return f"sqlite:///{results.resolve()}/mlflow.db"


class MlflowTracker:
    """An observer of a study that writes to MLflow from a thread of its own."""

    def __init__(
        self, uri: str, study: StudySpec, trials: tuple[TrialSpec, ...], folder: StudyFolder
    ) -> None:
        self.uri = uri
        self.problem: str | None = None
        self._study = study
        self._trials = trials
        self._folder = folder
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._state: dict[str, Any] = _read_state(folder, uri)
        self._thread.start()

    def progress(self, trial: TrialSpec, points: list[dict[str, Any]]) -> None:
        self._queue.put(("points", (trial, points)))

    def ended(self, record: Record) -> None:
        self._queue.put(("record", record))

    def close(self, records: dict[str, Record]) -> None:
        """Sends whatever is missing, ends the study's run, and waits for it.

        Afterwards `problem` says what could not be sent, if anything.
        """
        self._queue.put(("close", records))
        self._thread.join()

    def _work(self) -> None:
        writer: _Writer | None = None
        while True:
            kind, value = self._queue.get()
            try:
                # After a failure only the end is tried again: every call to a server that is away
                # waits for its retries, and the records hold everything.
                if self.problem is None or kind == "close":
                    writer = writer or _Writer(self.uri, self._study, self._trials, self._folder, self._state)
                    writer.take(kind, value)
                    write_json(self._folder.tracking, {"uri": self.uri, **self._state})
                    self.problem = None
            except Exception as error:
                self.problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                writer = None
            if kind == "close":
                return


def _read_state(folder: StudyFolder, uri: str) -> dict[str, Any]:
    state = read_header(folder.tracking) if folder.tracking.exists() else {}
    if state.get("uri") != uri:
        return {"study": None, "trials": {}}
    return {"study": state["study"], "trials": state["trials"]}


class _Writer:
    """Calls MLflow. `state` remembers run ids and the last step sent, over runs of the same study."""

    def __init__(
        self,
        uri: str,
        study: StudySpec,
        trials: tuple[TrialSpec, ...],
        folder: StudyFolder,
        state: dict[str, Any],
    ) -> None:
        # Retries are for a moment's trouble; a server that is away must not hold the study up.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import logging

        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        self._study = study
        self._trials = trials
        self._folder = folder
        self._state = state
        self._experiment = self._find_experiment(uri)
        self._run = self._find_run("softprior.study", study.name, study.name, None)
        state["study"] = self._run
        self._client.update_run(self._run, status="RUNNING")
        self._describe_study()

    def take(self, kind: str, value: Any) -> None:
        """Handles one message of the queue."""
        if kind == "points":
            self._points(*value)
        elif kind == "record":
            self._record(value)
        else:
            for record in value.values():
                if self._state["trials"].get(record.id, {}).get("status") != record.status:
                    self._record(record)
            ended = {record.status for record in value.values()}
            complete = len(value) == len(self._trials) and ended == {"finished"}
            if self._folder.table.exists():
                self._client.log_artifact(self._run, str(self._folder.table))
            self._client.log_artifact(self._run, str(self._folder.study))
            self._client.set_terminated(self._run, status="FINISHED" if complete else "FAILED")

    def _find_experiment(self, uri: str) -> str:
        name = f"softprior/{self._study.name}"
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        # A database keeps artifacts in the working directory unless told otherwise; servers know.
        local = None if uri.startswith("http") else (self._folder.root.parent / "mlflow-artifacts").as_uri()
        return str(self._client.create_experiment(name, artifact_location=local))

    def _find_run(self, tag: str, value: str, name: str, parent: str | None) -> str:
        found = self._client.search_runs([self._experiment], f"tags.`{tag}` = '{value}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {tag: value} | ({"mlflow.parentRunId": parent} if parent else {})
        return str(self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id)

    def _describe_study(self) -> None:
        study, trial = self._study, self._trials[0]
        tags = {f"version.{name}": value for name, value in versions().items()}
        tags |= {"commit": commit() or "unknown", "model_fingerprint": trial.model_fingerprint}
        self._tag(self._run, tags | {"mlflow.note.content": study.description})
        facts = {"model": study.model.id, "dtype": study.model.dtype, "trials": len(self._trials)}
        self._parameters(self._run, facts)

    def _trial(self, trial: TrialSpec) -> dict[str, Any]:
        """The state of a trial's run, which is found or made, described and set running."""
        known: dict[str, Any] | None = self._state["trials"].get(trial.id)
        if known is not None:
            return known
        run = self._find_run("softprior.trial", trial.id, trial.label, self._run)
        self._client.update_run(run, status="RUNNING")
        tags = {f"version.{name}": value for name, value in versions().items()}
        self._tag(
            run,
            tags | {"model_fingerprint": trial.model_fingerprint, "data_fingerprint": trial.data_fingerprint},
        )
        self._parameters(run, _flat(trial))
        sent = self._client.get_metric_history(run, "train_loss")
        last = max((metric.step for metric in sent), default=0)
        validated = [metric.step for metric in self._client.get_metric_history(run, "validation_loss")]
        state = {"run": run, "step": last, "validated": max(validated, default=-1), "status": "running"}
        self._state["trials"][trial.id] = state
        return state

    def _points(self, trial: TrialSpec, points: list[dict[str, Any]]) -> None:
        state = self._trial(trial)
        if state["status"] != "running":
            self._client.update_run(state["run"], status="RUNNING")
            state["status"] = "running"
        values = []
        for point in points:
            numbers = {k: v for k, v in point.items() if k.startswith(("train_", "validation_"))}
            values += [(name, value, point["step"]) for name, value in numbers.items()]
        self._metrics(state, values)

    def _record(self, record: Record) -> None:
        """Everything of a trial that has ended and was not sent yet."""
        state = self._trial(record.spec)
        values: list[tuple[str, float | None, int]] = []
        for point in record.steps:
            parts = {"loss": point.loss, "gradient": point.gradient, "moved": point.moved}
            values += [(f"train_{name}", value, point.step) for name, value in parts.items()]
        for score in record.validation:
            values += [
                ("validation_loss", score.loss, score.step),
                ("validation_accuracy", score.accuracy, score.step),
            ]
        self._metrics(state, values)
        if record.test is not None:
            test: dict[str, float | None] = {
                "test_loss": record.test.loss,
                "test_accuracy": record.test.accuracy,
                "test_shuffled_loss": record.test.shuffled_loss,
                **{f"test_{name}": value for name, value in record.test.metrics.items()},
            }
            for place, geometry in record.geometry.items():
                test |= {f"{name}/{place}": value for name, value in geometry.model_dump().items()}
            self._log(state["run"], [(name, value, record.test.step) for name, value in test.items()])
        if record.error:
            self._tag(state["run"], {"error": record.error[:5000]})
        for path in (
            self._folder.posterior(record.id),
            self._folder.figure(record.id),
            self._folder.record(record.id),
        ):
            if path.exists():
                self._client.log_artifact(state["run"], str(path))
        self._client.set_terminated(
            state["run"], status="FINISHED" if record.status == "finished" else "FAILED"
        )
        state["status"] = record.status

    def _metrics(self, state: dict[str, Any], values: list[tuple[str, float | None, int]]) -> None:
        """Logs the points behind the last step sent: a resumed trial reports some steps twice."""
        fresh = [
            (name, value, step)
            for name, value, step in values
            if step > (state["validated"] if name.startswith("validation_") else state["step"])
        ]
        self._log(state["run"], fresh)
        state["step"] = max([state["step"], *(s for n, _, s in fresh if n.startswith("train_"))])
        state["validated"] = max(
            [state["validated"], *(s for n, _, s in fresh if n.startswith("validation_"))]
        )

    def _log(self, run: str, values: list[tuple[str, float | None, int]]) -> None:
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value, step in values if value is not None]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run, metrics=metrics[start : start + BATCH])

    def _tag(self, run: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(run, tags=[RunTag(name, value) for name, value in tags.items()])

    def _parameters(self, run: str, values: dict[str, Any]) -> None:
        from mlflow.entities import Param

        self._client.log_batch(
            run, params=[Param(name, str(value)[:6000]) for name, value in list(values.items())[:100]]
        )


def _flat(trial: TrialSpec) -> dict[str, Any]:
    """A trial's parameters by readable names: `prior`, `prior.scale`, `training.steps`."""
    flat: dict[str, Any] = {"model": trial.model, "dtype": trial.dtype, "seed": trial.seed}
    flat["rate"] = None if trial.rate is None else trial.rate.label
    for axis in ("method", "prior", "task"):
        entry = getattr(trial, axis)
        flat[axis] = None if entry is None else entry.name
        flat |= {f"{axis}.{name}": value for name, value in ({} if entry is None else entry.params).items()}
    for group in ("training", "evaluation"):
        spec: Spec | None = getattr(trial, group)
        flat |= {
            f"{group}.{name}": value for name, value in ({} if spec is None else spec.model_dump()).items()
        }
    return {name: value for name, value in flat.items() if value is not None}
