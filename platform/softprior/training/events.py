"""Events that a running trial reports, and the interface of those who observe a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from softprior.inputs.specs import TrialSpec
from softprior.results.records import Record, Score, StepPoint


@dataclass(frozen=True)
class Phase:
    """Something begins.

    Attributes:
        step: optimizer steps taken so far.
        name: what begins, as `fitting vae`.
        part: which of several, as `place 2 of 30`.
    """

    step: int
    name: str
    part: str = ""


@dataclass(frozen=True)
class Step:
    """An optimizer step.

    Attributes:
        steps: how many the trial takes.
        resumed: whether the step was taken before, and is told again after a process died.
    """

    point: StepPoint
    steps: int
    resumed: bool = False

    @property
    def step(self) -> int:
        return self.point.step


@dataclass(frozen=True)
class Validation:
    """A point of the validation curve."""

    score: Score

    @property
    def step(self) -> int:
        return self.score.step


@dataclass(frozen=True)
class Notice:
    """A sentence for the user.

    Attributes:
        again: whether it says that this trial begins again, in another attempt or where an earlier one ended;
            such a notice is about no other trial of its prior.
    """

    step: int
    text: str
    again: bool = False


@dataclass(frozen=True)
class Failed:
    """The trial failed and could not write its record."""

    step: int
    reason: str


Event = Phase | Step | Validation | Notice | Failed

Report = Callable[[Event], None]
"""Receives what a trial reports: each phase as it begins, every step and every evaluation."""


class Observer:
    """Hears what happens in a study, in the driver.

    A subclass overrides what it needs, and never blocks for long.
    """

    def added(self, trials: Sequence[TrialSpec]) -> None:
        """A search has added trials: all of it so far, the new ones among them."""

    def progress(self, trial: TrialSpec, events: Sequence[Event]) -> None:
        """What a running trial tells, in order, each event once per attempt."""

    def ended(self, record: Record) -> None:
        """A trial has ended; its record is in the folder, unless none can be written there."""

    def close(self, records: Mapping[str, Record] | None, metrics: Mapping[str, float] | None = None) -> None:
        """The run is over, was stopped or broke off; nothing follows.

        Args:
            records: of all trials of the study that have ended, by trial id; None if another process has
                taken over the study, so that nothing more may be written.
            metrics: of the whole study, as a search's lowest value.
        """
