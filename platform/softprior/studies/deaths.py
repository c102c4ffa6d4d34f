"""Deaths of trial processes that Ray Tune would not recognise as such."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def every_death_is_one() -> Iterator[None]:
    """Makes every error of Ray's about a lost actor look like its death to Tune, while the context is open.

    Tune restarts a trial only after a `RayActorError`. Ray raises other errors for an actor that it ended
    because its node was low on memory (`OutOfMemoryError`) and for an answer that was lost with its node
    (`ObjectLostError`), and these make Tune end the whole study.
    """
    from ray.air.execution._internal import RayActorManager
    from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
    from ray.exceptions import RayActorError, RayError, RayTaskError

    failed = RayActorManager._actor_task_failed

    def told(self: RayActorManager, tracked_actor_task: TrackedActorTask, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=str(exception))
        failed(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = told  # type: ignore[method-assign]
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = failed  # type: ignore[method-assign]
