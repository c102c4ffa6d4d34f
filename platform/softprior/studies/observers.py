"""What a run of a study tells its observers, and how they are closed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from softprior.errors import UserError
from softprior.inputs.specs import TrialSpec
from softprior.results.folder import StudyFolder
from softprior.results.records import Record, load_records
from softprior.training.events import Observer

if TYPE_CHECKING:
    from softprior.training.extension import Extension

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What a run of a study finds, and what it is about to do.

    Attributes:
        trials: all trials of the study; for a search those that are known so far.
        kept: records of trials that ended in an earlier run and do not run again, by trial id.
        superseded: finished trials that do run again, because other code made their records.
        total: final number of trials, including those that a search has yet to propose.
        extended: finished trials that are measured on other tasks or probed now, without being trained
            again, by trial id.
        remedy: what running again what other code made would do, if that is more than to run its trials.
        designed: whether all trials are known before any runs, unlike those of a search.
        proposed: of a search, the ids that make up `total` so far; a trial of several proposals is in it
            several times.
    """

    trials: tuple[TrialSpec, ...]
    kept: Mapping[str, Record]
    superseded: tuple[str, ...]
    total: int
    extended: Mapping[str, Extension] = field(default_factory=dict)
    remedy: str = ""
    designed: bool = True
    proposed: tuple[str, ...] | None = None

    @property
    def reused(self) -> dict[str, Record]:
        """Records of trials that are not trained again, by trial id."""
        return {**self.kept, **{trial: extension.record for trial, extension in self.extended.items()}}

    @property
    def over(self) -> bool:
        """Whether nothing is left to run."""
        return self.number(self.kept) >= self.total

    def number(self, ids: Container[str]) -> int:
        """How many of the `total` trials have these ids; see `proposed`."""
        known = [trial.id for trial in self.trials] if self.proposed is None else self.proposed
        return sum(trial in ids for trial in known)

    @property
    def missing(self) -> tuple[TrialSpec, ...]:
        """The known trials that will run, or be measured on other tasks or probed."""
        return tuple(trial for trial in self.trials if not self.kept or trial.id not in self.kept)

    @property
    def new(self) -> tuple[TrialSpec, ...]:
        """The known trials that will run from their beginning, or from a checkpoint."""
        return tuple(trial for trial in self.missing if not self.extended or trial.id not in self.extended)


Listen = Callable[[Work], Sequence[Observer]]
"""Makes the observers of a run; called after the folder is locked and the missing trials are known."""


def no_observers(work: Work) -> Sequence[Observer]:  # noqa: ARG001  same signature
    """Nobody listens."""
    return ()


class Listeners:
    """The observers of one run, and the records that it leaves.

    Attributes:
        observers: in the order in which they are notified.
        metrics: of the whole study, set by a search at its end.
    """

    def __init__(self, observers: Sequence[Observer], work: Work, folder: StudyFolder) -> None:
        self.observers = tuple(observers)
        self.metrics: Mapping[str, float] = {}
        self._trials = work.trials
        self._kept = work.kept
        self._folder = folder

    def added(self, trials: Sequence[TrialSpec]) -> None:
        """Notifies the observers of all trials, with those that a search has added."""
        self._trials = tuple(trials)
        for observer in self.observers:
            observer.added(trials)

    def records(self) -> dict[str, Record]:
        """The records of the trials that have ended so far; those of earlier runs are not read again."""
        new = load_records(self._folder.records, known=self._kept)
        wanted = {trial.id for trial in self._trials}
        return {i: r for i, r in {**self._kept, **new}.items() if i in wanted}

    @cached_property
    def last(self) -> dict[str, Record]:
        """The records at the end; only those of earlier runs if the new ones cannot be read."""
        try:
            return self.records()
        except (OSError, UserError):
            logger.exception("the records of this run cannot be read")
            return dict(self._kept)


@contextmanager
def listening(listen: Listen, work: Work, folder: StudyFolder, lost: threading.Event) -> Iterator[Listeners]:
    """Makes the observers, and closes every one of them at the end, whatever happens, in their order.

    Args:
        lost: set if another process has taken over the study.
    """
    listeners = Listeners(listen(work), work, folder)

    def close(observer: Observer) -> None:
        observer.close(None if lost.is_set() else listeners.last, listeners.metrics)

    with ExitStack() as ending:
        for observer in reversed(listeners.observers):
            ending.callback(close, observer)
        yield listeners
