"""The time of day that MLflow is told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

_BEGAN = time.time() - time.monotonic()


def now() -> int:
    """Milliseconds since 1970: read once in a process and counted on, as the clock on the wall may jump."""
    return int((_BEGAN + time.monotonic()) * 1000)


def end_run(client: MlflowClient, run: str, status: str) -> None:
    """Ends a run. It began at an earlier time even if another process began it by a clock that was ahead."""
    client.set_terminated(run, status=status, end_time=max(now(), client.get_run(run).info.start_time))
