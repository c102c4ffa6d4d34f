"""MLflow's times go on while the machine sleeps."""

from __future__ import annotations

import time

import pytest

from softprior.tracking import clock

NIGHT = 8 * 3600


def test_a_night_of_sleep_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic clock of Linux stands still meanwhile; the one that is asked says so."""
    before, clocks = clock.now(), time.clock_gettime
    slept = {time.CLOCK_BOOTTIME: NIGHT}
    monkeypatch.setattr(time, "clock_gettime", lambda which: clocks(which) + slept.get(which, 0))
    assert 0 <= clock.now() - before - 1000 * NIGHT < 60_000
