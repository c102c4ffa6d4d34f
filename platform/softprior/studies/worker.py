"""What runs inside a Ray worker: one trial, its progress reported, its failure recorded."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any

from softprior.errors import UserError
from softprior.files import write_atomically
from softprior.labels import labels
from softprior.records import Record, save_record
from softprior.results import StudyFolder
from softprior.specs import ModelSpec, TrialSpec
from softprior.storage import location
from softprior.studies.placement import host_of

if TYPE_CHECKING:
    from softprior.models.hosted import HostedLM
    from softprior.training.checkpoint import Progress
    from softprior.training.trial import Trial

EVERY = 1.0
"""Seconds between reports: each one costs the driver some milliseconds."""


class Reporter:
    """Gathers a trial's progress and passes it on about once a second, nothing left out.

    A new phase is passed on at once: nothing may follow it for minutes. So is a validation: a search may
    stop the trial for it, and training waits for the answer.
    """

    def __init__(self, send: Any) -> None:
        self._send = send
        self._points: list[dict[str, Any]] = []
        self._last = 0.0
        self._phase: str | None = None

    def __call__(self, point: dict[str, Any]) -> None:
        self._points.append(point)
        before, self._phase = self._phase, point.get("phase")
        at_once = self._phase not in (None, before) or "validation_loss" in point
        if at_once or time.monotonic() - self._last >= EVERY:
            self.flush()

    def flush(self) -> None:
        """Sends what has gathered."""
        if self._points:
            self._send({"points": self._points})
            self._points = []
            self._last = time.monotonic()


def run_trial(config: dict[str, Any], hosted: HostedLM | None = None) -> None:
    """The trainable: runs one trial and leaves its record, whatever happens.

    Args:
        config: `trial` and `model` as JSON, `folder` as a path, `cpus`.
        hosted: the model, if the trial is not to load its own.
    """
    from ray import tune

    from softprior.training.environment import environment
    from softprior.training.failure import TrialFailedError
    from softprior.training.identity import found_files
    from softprior.training.threads import limit_threads
    from softprior.training.trial import Trial

    limit_threads(config["cpus"])
    spec = TrialSpec.model_validate_json(config["trial"])
    folder = StudyFolder(location(config["folder"]))
    reporter = Reporter(tune.report)
    started = time.monotonic()
    reporter({"step": 0, "phase": "loading the model"})
    if folder.record(spec.id).exists():
        return  # this is a retry of a trial that had ended before its process did
    trial: Trial | None = None
    try:
        with host_of(ModelSpec.model_validate_json(config["model"]), hosted) as given:
            trial = Trial(spec, given.host, given.tokenizer, given.fingerprint, folder, reporter)
            _require_same("the model", given.fingerprint, spec.model_fingerprint)
            _require_same("the task's data", trial.task.fingerprint(), spec.data_fingerprint)
            _require_same("a file of the prior", found_files(spec) or "", spec.prior_fingerprint or "")
            trial.run()
    except (UserError, TrialFailedError) as error:
        reason = str(error)
    except Exception as error:
        trace = folder.error(spec.id)
        text = traceback.format_exc()
        write_atomically(trace, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        reason = f"{type(error).__name__}: {error} (unexpected; please report {trace})"
    else:
        reporter.flush()
        return
    facts = environment(time.monotonic() - started)
    save_record(folder.record(spec.id), failed(spec, reason, facts, trial.progress if trial else None))
    reporter.flush()


def _require_same(what: str, found: str, planned: str) -> None:
    if found != planned:
        raise UserError(
            f"{what} changed after the study was planned ({found[:12]} instead of {planned[:12]}), or "
            "this worker has other package versions; run the study again"
        )


def failed(
    spec: TrialSpec, reason: str, environment: dict[str, Any], progress: Progress | None = None
) -> Record:
    """The record of a trial that did not get to its end, with the curves it has."""
    return Record(
        id=spec.id,
        label=labels([spec])[spec.id],
        spec=spec,
        status="failed",
        error=reason,
        steps=tuple(progress.steps) if progress else (),
        validation=tuple(progress.validation) if progress else (),
        environment=environment,
    )
