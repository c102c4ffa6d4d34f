"""Deaths of trials' processes that Ray Tune would not take for one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def every_death_is_one() -> Iterator[None]:
    """Tells Tune of everything Ray says of a lost actor as of an actor's death, while the context is open.

    Tune starts a trial again after a `RayActorError` alone. Ray has other words for an actor that it ended
    because its node was low on memory (`OutOfMemoryError`) and for an answer that was lost with its node
    (`ObjectLostError`), and at these Tune ends the whole study.
    """
    from ray.air.execution._internal import RayActorManager
    from ray.exceptions import RayActorError, RayError, RayTaskError

    failed = RayActorManager._actor_task_failed

    def told(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=str(exception))
        failed(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = told
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = failed
