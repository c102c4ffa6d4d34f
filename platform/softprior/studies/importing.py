"""Imports without Python's collector of garbage, which takes a sixth of their time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """What is imported meanwhile is not looked at by the collector, neither now nor later.

    Imports make close to a million objects, few of them garbage. The collector would look at them again and
    again, and once more as the process ends.
    """
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # once: later a process has objects that become garbage
            gc.freeze()
        gc.enable()
