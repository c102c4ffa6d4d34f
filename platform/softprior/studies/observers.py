"""Who may listen to a study, in the driver."""

from __future__ import annotations

from typing import Any, Protocol

from softprior.records import Record
from softprior.specs import TrialSpec


class Observer(Protocol):
    """Hears what happens in a study, in the driver; must not block for long."""

    def progress(self, trial: TrialSpec, points: list[dict[str, Any]]) -> None:
        """Points of a running trial, in order, each once an attempt."""

    def ended(self, record: Record) -> None:
        """A trial has its record."""
