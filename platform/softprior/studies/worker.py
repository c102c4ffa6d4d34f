"""What runs inside a Ray worker: one trial, its progress reported, its failure recorded."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypedDict

from softprior.errors import UserError, hidden
from softprior.inputs.specs import ModelSpec, TrialSpec
from softprior.liveness import alive, waiting
from softprior.results.files import write_atomically
from softprior.results.folder import StudyFolder
from softprior.results.provenance import code
from softprior.results.records import Record, load_record, save_record
from softprior.results.storage import Location, location
from softprior.studies.hosts import SharedModel, host_of
from softprior.studies.watchdog import watched
from softprior.training.events import Event, Failed, Notice, Phase, Validation
from softprior.training.recognised import own_label

if TYPE_CHECKING:
    from softprior.training.checkpoint import TrialState
    from softprior.training.setup import Setup
    from softprior.training.trial import Trial

EVENTS = "events"
"""The key of the events in a report to Tune."""

EVERY = 1.0
"""Seconds between reports: each one costs the driver some milliseconds."""


class Reporter:
    """Collects a trial's progress and reports it about once a second, without dropping anything.

    A new phase is reported at once, since nothing may follow it for minutes. So is a validation: a search may
    stop the trial because of it, and training waits for the answer. Each event is a sign of life.
    """

    def __init__(self, send: Callable[[dict[str, list[Event]]], object]) -> None:
        self._send = send
        self._events: list[Event] = []
        self._last = 0.0
        self._at: Event = Phase(0, "")

    def __call__(self, event: Event) -> None:
        alive()
        before = self._at
        if not isinstance(event, Notice):
            self._at = event
        self._events.append(event)
        begins = isinstance(event, Phase) and not (isinstance(before, Phase) and before.name == event.name)
        at_once = begins or isinstance(event, Validation | Failed)
        if at_once or time.monotonic() - self._last >= EVERY:
            self.flush()

    def flush(self) -> None:
        """Sends the collected events."""
        if self._events:
            with waiting():  # for the driver, which takes reports one after another
                self._send({EVENTS: self._events})
            self._events = []
            self._last = time.monotonic()

    def where(self) -> str:
        """What the trial is doing."""
        return at(self._at)


def at(event: Event) -> str:
    """How far a trial that reports an event is: `step 20`, or `step 0, fitting vae place 2 of 30`."""
    words = f"{event.name} {event.part}".strip() if isinstance(event, Phase) else ""
    return f"step {event.step}, {words}" if words else f"step {event.step}"


class TrialConfig(TypedDict):
    """What Tune hands to a trial.

    Attributes:
        trial, model: as JSON.
        folder: a path.
        cpus, patience: see `ResourcesSpec`.
        code: the names and texts of the user's own files.
    """

    trial: str
    model: str
    folder: str
    cpus: int
    patience: float | None
    code: list[list[str]]


def run_trial(config: TrialConfig, shared: SharedModel | None = None) -> None:
    """The trainable: runs one trial and leaves its record, whatever happens.

    Args:
        config: see `TrialConfig`.
        shared: the model, if the trial is not to load its own.
    """
    from ray import tune

    from softprior.studies.own_code import OwnCode, require_origins, use_code
    from softprior.training.as_planned import require_as_planned
    from softprior.training.environment import environment
    from softprior.training.extension import extend, lasting, not_extended
    from softprior.training.threads import limit_threads
    from softprior.training.trial import Trial

    limit_threads(config["cpus"])
    code()  # known before anybody edits it
    spec = TrialSpec.model_validate_json(config["trial"])
    folder = StudyFolder(location(config["folder"]))
    reporter = Reporter(tune.report)
    started = time.monotonic()
    reporter(Phase(0, "loading the model"))
    before = load_record(folder.record(spec.id)) if folder.record(spec.id).exists() else None
    if before is not None and (before.status != "finished" or not lasting(spec)):
        return  # this is a retry of a trial that had ended before its process did
    trial: Trial | None = None
    try:
        for name, text in config["code"]:
            use_code(OwnCode(name, text))
        require_origins(spec.code)
        with (
            watched(config["patience"], folder.stalls(spec.id), reporter.where),
            host_of(ModelSpec.model_validate_json(config["model"]), shared) as given,
        ):
            trial = Trial(Setup(spec, given.host, given.tokenizer, given.fingerprint), folder, reporter)
            require_as_planned(trial.setup)
            if before is None:
                trial.run()
            else:
                extend(trial, before, reporter)
    except Exception as error:
        reason = _explain(error, reporter.where(), folder.error(spec.id))
    else:
        reporter.flush()
        return
    if before is None:
        facts = environment(time.monotonic() - started, trial.setup.host.info() if trial else None)
        record = failed(spec, reason, facts, trial.state if trial else None)
    else:
        # Read again: scores on some tasks may have been saved before the next one failed.
        record = not_extended(spec, load_record(folder.record(spec.id)), reason)
    try:
        save_record(folder.record(spec.id), record)
    except (OSError, UserError):  # the driver tries again, and says so if it cannot either
        reporter(Failed(0, reason))
    reporter.flush()


def _explain(error: Exception, where: str, trace: Location) -> str:
    """Says in one line why a trial could not go on; writes the traceback of an unforeseen failure to a file.

    Args:
        where: how far the trial was.
        trace: the file.
    """
    from softprior.training.failure import TrialFailedError, shortage

    if isinstance(error, UserError | TrialFailedError):
        return str(error)
    short = shortage(error)
    if short:
        return f"{where}: {short}"
    text = hidden("".join(traceback.format_exception(error)))
    write_atomically(trace, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return f"{type(error).__name__}: {hidden(str(error))} (unexpected; please report {trace})"


def failed(
    spec: TrialSpec, reason: str, environment: Mapping[str, object], state: TrialState | None = None
) -> Record:
    """The record of a trial that did not finish, with its curves so far."""
    return Record(
        id=spec.id,
        label=own_label(spec),
        spec=spec,
        status="failed",
        error=reason,
        steps=tuple(state.steps) if state else (),
        validation=tuple(state.validation) if state else (),
        environment=environment,
    )
