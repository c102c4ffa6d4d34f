"""What runs inside a Ray worker: one trial, its progress reported, its failure recorded."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Any

from softprior.errors import UserError
from softprior.records import Record, save_record
from softprior.results import StudyFolder
from softprior.specs import ModelSpec, TrialSpec

EVERY = 1.0
"""Seconds between reports: each one costs the driver some milliseconds."""


class Reporter:
    """Gathers a trial's progress and passes it on about once a second, nothing left out."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self._points: list[dict[str, Any]] = []
        self._last = 0.0

    def __call__(self, point: dict[str, Any]) -> None:
        self._points.append(point)
        if time.monotonic() - self._last >= EVERY:
            self.flush()

    def flush(self) -> None:
        """Sends what has gathered."""
        if self._points:
            self._send({"points": self._points})
            self._points = []
            self._last = time.monotonic()


def run_trial(config: dict[str, Any]) -> None:
    """The trainable: runs one trial and leaves its record, whatever happens.

    Args:
        config: `trial` and `model` as JSON, `folder` as a path, `cpus`.
    """
    from ray import tune

    from softprior.models.load import load_local
    from softprior.training.failure import TrialFailedError
    from softprior.training.threads import limit_threads
    from softprior.training.trial import Trial, environment

    limit_threads(config["cpus"])
    spec = TrialSpec.model_validate_json(config["trial"])
    folder = StudyFolder(Path(config["folder"]))
    reporter = Reporter(tune.report)
    started = time.monotonic()
    reporter({"step": 0, "phase": "loading"})
    reporter.flush()
    try:
        loaded = load_local(ModelSpec.model_validate_json(config["model"]))
        Trial(spec, loaded.host, loaded.tokenizer, loaded.fingerprint, folder, reporter).run()
    except (UserError, TrialFailedError) as error:
        reason = str(error)
    except Exception as error:
        # Anything else is our mistake: the trace is kept where the user can send it from.
        reason = f"{type(error).__name__}: {error}"
        trace = folder.root / "errors" / f"{spec.id}.txt"
        trace.parent.mkdir(parents=True, exist_ok=True)
        trace.write_text(traceback.format_exc(), encoding="utf-8")
    else:
        reporter.flush()
        return
    save_record(folder.record(spec.id), failed(spec, reason, environment(time.monotonic() - started)))
    reporter.flush()


def failed(spec: TrialSpec, reason: str, environment: dict[str, Any]) -> Record:
    """The record of a trial that did not get to its end."""
    return Record(
        id=spec.id, label=spec.label, spec=spec, status="failed", error=reason, environment=environment
    )
