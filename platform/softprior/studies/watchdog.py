"""Ends a process that hangs, writes the stacks of its threads, and reads what such ends have written.

Nothing else helps: Python cannot stop a thread that waits for a file system, a device or another process.
"""

from __future__ import annotations

import faulthandler
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from softprior.inputs.labels import counted
from softprior.liveness import alive, silence
from softprior.results.storage import Location, RemotePath

STALL, TIMEOUT = "no sign of life for ", "Timeout ("
"""How a stall begins in the file: written here, and by Python's own timer."""

LOOKS, LONGEST = 20, 5.0
"""Number of checks within the limit, and most seconds between two of them."""

GRACE = 10.0
"""Seconds beyond the limit after which Python's own timer, which needs no lock, ends the process: for hangs
that hold the interpreter lock, and for file systems that hang so that nothing can be written."""


@contextmanager
def watched(minutes: float | None, path: Location, where: Callable[[], str]) -> Iterator[None]:
    """Ends this process if it gives no sign of life for `minutes` while the context is open.

    Args:
        minutes: None for no limit.
        path: a text file, to which the stacks of all threads are added.
        where: what the process is doing, in words.
    """
    if minutes is None:
        yield
        return
    left = threading.Event()
    with _local(path) as file:
        arguments = (minutes, path, file, where, left)
        thread = threading.Thread(target=_watch, args=arguments, name="watchdog", daemon=True)
        alive()
        _set_timer(60 * minutes, file)  # the work may take the global lock before the thread has looked once
        thread.start()
        try:
            yield
        finally:
            left.set()
            thread.join()


def stalls(path: Location) -> list[str]:
    """What a process was doing each time it was ended, where that is known."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [line for line in lines if line.startswith((STALL, TIMEOUT))]
    return [line.partition(": ")[2] for line in found]


def remove_if_empty(path: Location) -> None:
    """Removes the file of a process that never hung; one that was killed cannot do it itself."""
    if isinstance(path, Path):  # others are written as a whole when there is something
        with suppress(FileNotFoundError):
            if not path.stat().st_size:
                path.unlink()


@contextmanager
def _local(path: Location) -> Iterator[IO[bytes]]:
    """A local file that stays open throughout: Python's own timer cannot open one."""
    if isinstance(path, RemotePath):
        with tempfile.NamedTemporaryFile(prefix="softprior-stall-") as temporary:
            yield temporary
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        yield file
    remove_if_empty(path)


def _set_timer(limit: float, file: IO[bytes]) -> None:
    """Has Python's own timer end the process if nobody sets it again, which takes no global lock."""
    faulthandler.dump_traceback_later(limit + GRACE, file=file, exit=True)


def _watch(
    minutes: float, path: Location, file: IO[bytes], where: Callable[[], str], left: threading.Event
) -> None:
    limit = 60 * minutes
    try:
        while not left.wait(min(LONGEST, limit / LOOKS)):
            _set_timer(limit, file)
            if silence() > limit:
                faulthandler.dump_traceback_later(GRACE, file=file, exit=True)
                _leave(path, file, f"{STALL}{counted(minutes, 'minute')}: {where()}\n")
                os._exit(1)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _leave(path: Location, file: IO[bytes], line: str) -> None:
    file.write(line.encode())
    file.flush()
    faulthandler.dump_traceback(file, all_threads=True)
    os.fsync(file.fileno())
    if isinstance(path, RemotePath):
        file.seek(0)
        before = path.read_bytes() if path.exists() else b""
        path.write_bytes(before + file.read())
