"""Exclusive use of a results folder: by a file lock or, in an object store, by signs of life."""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from softprior.errors import InUseError, UserError
from softprior.results.files import file_lock
from softprior.results.storage import Location, RemotePath

logger = logging.getLogger(__name__)

BEAT, STALE = 8.0, 30.0
"""Seconds between a driver's signs of life, and seconds without one after which it is taken for dead."""

SETTLED = 2.0
"""Seconds after which drivers that began together all know which of them wrote last."""


@contextmanager
def locked(path: Location) -> Iterator[threading.Event]:
    """Keeps other processes from working in the folder of a lock while the context is open.

    Yields:
        An event that is set once another driver has taken over, which can happen only in an object store.

    Raises:
        InUseError: another process holds the lock, on entering, or has taken it over, on leaving.
        UserError: the folder cannot be written.
    """
    if isinstance(path, RemotePath):
        with leased(path) as lost:
            yield lost
    else:
        with file_lock(path):
            yield threading.Event()


@contextmanager
def leased(path: RemotePath) -> Iterator[threading.Event]:
    """Holds an object that says who works in its folder and is written again every few seconds.

    Two drivers could both run only if one gave no sign of life for half a minute and then went on. It
    finds the other's object at its next sign of life and stops as for SIGTERM. What both computed
    meanwhile is the same; nothing is damaged.

    Raises:
        InUseError: another driver gives signs of life, on entering, or has taken over, on leaving.
    """
    _wait_for_end(path)
    driver = {"driver": uuid.uuid4().hex, "machine": platform.node(), "process": os.getpid()}
    own = json.dumps(driver).encode()
    path.write_bytes(own)
    time.sleep(SETTLED)
    if path.read_bytes() != own:
        raise _running(path)
    left, lost = threading.Event(), threading.Event()

    def beat() -> None:
        while not left.wait(BEAT):
            with suppress(UserError):  # the store is away for a moment; who needs it hears of it elsewhere
                if _holder(path) not in (own, None):
                    lost.set()
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                path.write_bytes(own)

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        left.set()
        thread.join()
        if lost.is_set():
            raise _running(path)
        with suppress(UserError):
            if _holder(path) == own:
                path.unlink(missing_ok=True)


def _holder(path: RemotePath) -> bytes | None:
    """What the driver that holds the lease has written; None if nobody does."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _wait_for_end(path: RemotePath) -> None:
    """Waits until the lease is gone or its driver must be dead.

    Times are compared with one another only, because clocks of machines differ.

    Raises:
        InUseError: it was written again meanwhile.
    """
    first, deadline = path.modified(), time.monotonic() + STALE
    if first is not None:
        logger.warning(
            "waiting up to %g seconds for a sign of life from the last driver in %s", STALE, path.parent
        )
    while first is not None and time.monotonic() < deadline:
        time.sleep(1)
        now = path.modified()
        if now is None:
            return
        if now != first:
            raise _running(path)


def _running(path: RemotePath) -> InUseError:
    with suppress(UserError, FileNotFoundError, ValueError, KeyError):
        driver = json.loads(path.read_bytes())
        who = f"process {driver['process']} on {driver['machine']}"
        return InUseError(f"{who} is running in {path.parent}; wait for it or stop it")
    return InUseError(f"another process is running in {path.parent}; wait for it or stop it")
