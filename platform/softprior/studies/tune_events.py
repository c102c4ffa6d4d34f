"""Ray Tune's events, passed on to the study's observers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.inputs.specs import TrialSpec
from softprior.results.folder import StudyFolder
from softprior.results.provenance import code
from softprior.results.records import Record, load_record, save_record
from softprior.studies.failures import failed
from softprior.studies.reporting import EVENTS, at
from softprior.studies.watchdog import stalls
from softprior.training.events import Event, Failed, Notice, Observer
from softprior.training.extension import left_out, not_extended

logger = logging.getLogger(__name__)

DIED = "its process died"
STARVED = "Ray ended its process because the node was low on memory"
TIMES = {1: "once", 2: "twice"}

RUNNING = 64
"""Trials whose specs are kept: observers hold what they are told, and each event would bring another copy."""


Trials = list[TuneTrial]


class Attempt(NamedTuple):
    """A failed attempt at a trial: why it failed, and what the trial was doing."""

    why: str
    at: str


class Events(tune.Callback):
    """Passes Tune's events on to observers, and writes the record of a trial whose process died."""

    def __init__(
        self, folder: StudyFolder, observers: Sequence[Observer], retries: int, patience: float | None
    ) -> None:
        self._folder = folder
        self._observers = observers
        self._retries = retries
        self._patience = patience
        self._at: dict[str, str] = {}
        """By trial, what it was doing when last heard of."""
        self._said: dict[str, str] = {}
        """By trial, why it failed, for trials that could not write their records."""
        self._attempts: dict[str, list[Attempt]] = {}
        """By trial, its failed attempts."""
        self._stalls: dict[str, int] = {}
        """By trial, how often it is known to have hung, including in earlier runs of the study."""
        self.unwritten: UserError | None = None
        """Why the first record that could not be written was not."""

    def __reduce__(self) -> tuple[object, ...]:
        # Tune pickles its callbacks for a restore that softprior never uses; threads and consoles
        # cannot be pickled and mean nothing elsewhere.
        return Events, (self._folder, (), self._retries, self._patience)

    def on_trial_start(self, iteration: int, trials: Trials, trial: TuneTrial, **info: object) -> None:  # noqa: ARG002
        spec = _spec(trial)
        if self._patience is not None and spec.id not in self._stalls:
            self._stalls[spec.id] = len(stalls(self._folder.stalls(spec.id)))

    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002
        trials: Trials,  # noqa: ARG002
        trial: TuneTrial,
        result: dict[str, list[Event]],
        **info: object,  # noqa: ARG002
    ) -> None:
        spec, events = _spec(trial), result.get(EVENTS, [])
        for event in events:
            if isinstance(event, Failed):
                self._said[spec.id] = event.reason
            if not isinstance(event, Notice):
                self._at[spec.id] = at(event)
        self._tell(spec, events)

    def on_trial_recover(self, iteration: int, trials: Trials, trial: TuneTrial, **info: object) -> None:  # noqa: ARG002
        spec = _spec(trial)
        last = self._note_attempt(spec, trial)
        number = f"{len(self._attempts[spec.id]) + 1} of {self._retries + 1}"
        notice = f"{last.why} ({last.at}); started again from its last checkpoint (attempt {number})"
        self._tell(spec, [Notice(0, notice, again=True)])

    def on_trial_complete(self, iteration: int, trials: Trials, trial: TuneTrial, **info: object) -> None:  # noqa: ARG002
        self._ended(_spec(trial), died=False)

    def on_trial_error(self, iteration: int, trials: Trials, trial: TuneTrial, **info: object) -> None:  # noqa: ARG002
        spec = _spec(trial)
        self._note_attempt(spec, trial)
        self._ended(spec, died=True)

    def _tell(self, spec: TrialSpec, events: Sequence[Event]) -> None:
        for observer in self._observers:
            with _guarded(observer):
                observer.progress(spec, events)

    def _note_attempt(self, spec: TrialSpec, trial: TuneTrial) -> Attempt:
        """Why a trial's process, or what ran in it, is gone."""
        where = self._at.get(spec.id, "step 0")
        hung = [] if self._patience is None else stalls(self._folder.stalls(spec.id))
        said = _last_error(trial)
        if len(hung) > self._stalls.get(spec.id, 0):
            self._stalls[spec.id] = len(hung)
            attempt = Attempt(
                f"no sign of life for {counted(self._patience or 0, 'minute')}", hung[-1] or where
            )
        elif "low on memory" in said:
            attempt = Attempt(STARVED, where)
        elif "Traceback (most recent call last)" in said:
            attempt = Attempt(said.splitlines()[-1], where)
        else:
            attempt = Attempt(DIED, where)
        self._attempts.setdefault(spec.id, []).append(attempt)
        return attempt

    def _ended(self, spec: TrialSpec, died: bool) -> None:
        path = self._folder.record(spec.id)
        if not path.exists():
            record = self._save(failed(spec, self._why(spec), code()))
        else:
            record = load_record(path)
            if left_out(spec, record, untold=not died and spec.id not in self._said):
                record = self._save(not_extended(spec, record, self._why(spec)))
        for observer in self._observers:
            with _guarded(observer):
                observer.ended(record)

    def _save(self, record: Record) -> Record:
        """Writes a record for a process that could not. If that fails too, observers get the reason."""
        try:
            save_record(self._folder.record(record.id), record)
        except (OSError, UserError) as error:
            self.unwritten = self.unwritten or self._cannot_write(error)
            if record.status != "failed":
                return record
            reason = f"{record.error}; its record cannot be written ({error}): it runs again next time"
            return failed(record.spec, reason, code())
        return record

    def _cannot_write(self, error: OSError | UserError) -> UserError:
        if isinstance(error, UserError):
            return error
        return UserError(
            f"{self._folder.records} cannot be written ({error.strerror}); finished trials and checkpoints "
            "are kept, so free some space and run the command again"
        )

    def _why(self, spec: TrialSpec) -> str:
        """Why a trial has no record of its own."""
        if spec.id in self._said:
            return self._said[spec.id]
        attempts = self._attempts.get(spec.id, [])
        if not attempts:
            return "it left no record here; let its node share the results folder"
        often, last = Counter(attempt.why for attempt in attempts), dict(attempts)
        counted = " and ".join(
            f"{why} ({last[why]}), {TIMES.get(n, f'{n} times')}" for why, n in often.items()
        )
        if any(why not in (DIED, STARVED) for why in often):
            stacks = self._folder.stalls(spec.id)
            return f"{counted}; see {stacks if stacks.exists() else 'the log of its worker'}"
        guess = "" if STARVED in often else ", perhaps for lack of memory"
        return f"{counted}{guess}; lower resources.concurrent or training.batch"


@contextmanager
def _guarded(observer: Observer) -> Iterator[None]:
    """Keeps an observer's failure (a full disk, a closed terminal) from failing the trial."""
    try:
        yield
    except Exception:
        logger.exception("%s failed; the study continues", type(observer).__name__)


def _last_error(trial: TuneTrial) -> str:
    """What Tune recorded about the last failed attempt.

    Tune's own `get_error` reads a copy of this file that is made only now and then.
    """
    if trial.error_file is None:
        return ""
    return Path(trial.error_file).read_text(encoding="utf-8").rpartition("Failure # ")[2].strip()


def _spec(trial: TuneTrial) -> TrialSpec:
    return _parsed(trial.config["trial"])


@lru_cache(RUNNING)
def _parsed(text: str) -> TrialSpec:
    return TrialSpec.model_validate_json(text)
