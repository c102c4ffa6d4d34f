"""Deaths of trial processes that Ray Tune would not recognise as such."""

from __future__ import annotations

from contextlib import AbstractContextManager

from softprior.studies.ray_private import errors_of_actors_as


def every_death_is_one() -> AbstractContextManager[None]:
    """Makes every error of Ray's about a lost actor look like its death to Tune, while the context is open.

    Tune restarts a trial only after a `RayActorError`. Ray raises other errors for an actor that it ended
    because its node was low on memory (`OutOfMemoryError`) and for an answer that was lost with its node
    (`ObjectLostError`), and these make Tune end the whole study.
    """
    from ray.exceptions import RayActorError, RayError, RayTaskError

    def told(error: Exception) -> Exception:
        if isinstance(error, RayError) and not isinstance(error, RayActorError | RayTaskError):
            return RayActorError(error_msg=str(error))
        return error

    return errors_of_actors_as(told)
