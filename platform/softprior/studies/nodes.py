"""Waits until all nodes of a cluster that is being started have joined it."""

from __future__ import annotations

import logging
import time

from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.studies.reach import require_reachable

BETWEEN = 0.5
"""Seconds between two looks."""


def await_nodes(address: str, count: int, patience: float) -> None:
    """Waits until the cluster at HOST:PORT has `count` nodes; uses this process's connection to Ray.

    Raises:
        UserError: it has fewer after `patience` seconds, or nobody answers.
    """
    import ray

    until = time.monotonic() + patience
    while True:
        try:
            require_reachable(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            break
        except (UserError, ConnectionError, RuntimeError, ValueError) as error:
            if time.monotonic() >= until:
                raise error if isinstance(error, UserError) else UserError(str(error)) from None
            time.sleep(BETWEEN)
    try:
        while (there := sum(node["Alive"] for node in ray.nodes())) < count:
            if time.monotonic() >= until:
                raise UserError(
                    f"{there} of {counted(count, 'node')} have joined the Ray cluster at {address} after "
                    f"{patience:g} seconds; look above for what the others say, or give it longer with --wait"
                )
            time.sleep(BETWEEN)
    finally:
        ray.shutdown()
