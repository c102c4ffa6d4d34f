"""Reports of a trial to Tune: its events, about once a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from softprior.liveness import alive, waiting
from softprior.training.events import Event, Failed, Notice, Phase, Validation

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
