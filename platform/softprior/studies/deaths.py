"""Deaths of trial processes that Ray Tune would not recognise as such, or would count twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from softprior.studies.ray_private import errors_of_actors_as, lost_resets_as_losses


@contextmanager
def every_death_is_one() -> Iterator[None]:
    """Makes every error of Ray's about a lost actor one death to Tune, while the context is open.

    Tune restarts a trial only after a `RayActorError`. Ray raises other errors for an actor that it ended
    because its node was low on memory (`OutOfMemoryError`) and for an answer that was lost with its node
    (`ObjectLostError`), and these make Tune end the whole study. A process that is lost between two trials
    counts twice, and so as the end of the second one.
    """
    from ray.exceptions import RayActorError, RayError, RayTaskError

    def told(error: Exception) -> Exception:
        if isinstance(error, RayError) and not isinstance(error, RayActorError | RayTaskError):
            return RayActorError(error_msg=str(error))
        return error

    with errors_of_actors_as(told), lost_resets_as_losses():
        yield
