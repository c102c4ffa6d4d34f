"""The time of day that MLflow is told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that does not jump. On Linux, the monotonic one stands still while the machine sleeps."""

_BEGAN = time.time() - time.clock_gettime(_STEADY)


def now() -> int:
    """Milliseconds since 1970: read once in a process and counted on, as the clock on the wall may jump."""
    return int((_BEGAN + time.clock_gettime(_STEADY)) * 1000)


def end_run(client: MlflowClient, run: str, status: str, start: int) -> None:
    """Ends a run, not before its start, which another process may have set by a clock that was ahead."""
    client.set_terminated(run, status=status, end_time=max(now(), start))
