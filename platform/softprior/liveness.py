"""Signs of life of this process, for a watchdog that ends it when it hangs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_last = time.monotonic()
_waits: set[object] = set()


def alive() -> None:
    """Gives a sign of life: work that takes long calls this now and then."""
    global _last
    _last = time.monotonic()


@contextmanager
def waiting() -> Iterator[None]:
    """Lets the time inside not count: what is waited for has a limit of its own, or needs none."""
    wait = object()
    _waits.add(wait)
    try:
        yield
    finally:
        alive()
        _waits.discard(wait)


def silence() -> float:
    """Seconds since the last sign of life; 0 while the process waits."""
    return 0.0 if _waits else time.monotonic() - _last
