"""What a running trial tells: typed events, from the trial to the driver's observers."""

from __future__ import annotations

from dataclasses import dataclass

from softprior.records import Score, StepPoint


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
        again: whether it says that another attempt at the trial begins.
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
