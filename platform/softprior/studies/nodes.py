"""Waits until all nodes of a cluster that is being started have joined it."""

from __future__ import annotations

import logging
import time

from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.studies.reach import UnansweredError, other_versions, require_reachable

BETWEEN = 0.5
"""Seconds between two looks."""


def await_nodes(address: str, count: int, patience: float) -> None:
    """Waits until the cluster at HOST:PORT has `count` nodes; uses this process's connection to Ray.

    Raises:
        UserError: it has fewer after `patience` seconds, or nobody answers; at once if it never will: the
            token is wrong, or versions differ.
    """
    import ray

    until = time.monotonic() + patience
    try:
        while (said := _connected(address)) is not None:
            if time.monotonic() >= until:
                raise UserError(
                    f"Ray on the first node, at {address}, has not answered in {patience:g} seconds "
                    f"({said}); look above for what its node says, or give it longer with --wait"
                )
            time.sleep(BETWEEN)
        while (there := sum(node["Alive"] for node in ray.nodes())) < count:
            if time.monotonic() >= until:
                raise UserError(
                    f"{there} of {counted(count, 'node')} have joined the Ray cluster at {address} after "
                    f"{patience:g} seconds; look above for what the others say, or give it longer with --wait"
                )
            time.sleep(BETWEEN)
    finally:
        ray.shutdown()


def _connected(address: str) -> str | None:
    """Connects to a cluster that is starting, and returns None or why it could not yet.

    Raises:
        UserError: it never will.
    """
    import ray

    try:
        require_reachable(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except UnansweredError as error:
        return error.reason
    except UserError:
        raise
    except Exception as error:  # Ray raises plain ones too where its parts are not all there yet
        if str(error).startswith("Version mismatch"):
            raise other_versions(address, str(error)) from None
        ray.shutdown()  # of what is half made, which the next try would take for a connection
        return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return None
