"""Who may listen to a study, in the driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from softprior.events import Event
from softprior.records import Record
from softprior.specs import TrialSpec


class Observer(Protocol):
    """Hears what happens in a study, in the driver; must not block for long."""

    def progress(self, trial: TrialSpec, events: Sequence[Event]) -> None:
        """What a running trial tells, in order, each event once per attempt."""

    def ended(self, record: Record) -> None:
        """A trial has ended; its record is in the folder, unless none can be written there."""


class SearchObserver(Observer, Protocol):
    """Hears also of the trials that a search adds while it runs."""

    def added(self, trials: Sequence[TrialSpec]) -> None:
        """All trials of the search so far, the new ones among them."""
