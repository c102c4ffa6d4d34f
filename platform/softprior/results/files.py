"""Writes files so that nobody ever sees half of one, and tells when somebody has."""

from __future__ import annotations

import json
import math
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, overload

from filelock import FileLock, Timeout

from softprior.errors import InUseError, UserError
from softprior.results.storage import Location, RemotePath

ValueT = TypeVar("ValueT")

TEMPORARY = r"\..+\.[0-9a-f]{32}\.part$"
"""Names of files that are being written."""

_UMASK = os.umask(0)
os.umask(_UMASK)


def write_atomically(path: Location, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file (a sibling of `path`), then puts it in place in one step.

    A reader sees the old file or the new one. If `write` fails the old file stays as it was.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="softprior-") as folder:
            filled = Path(folder) / path.name
            write(filled)
            path.upload(filled)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Nodes of a cluster share folders, and in containers their processes have the same ids.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        write(temporary)
        # Libraries that write through a private temporary file (safetensors) leave it unreadable to
        # the group, which shared results folders cannot use.
        temporary.chmod(0o666 & ~_UMASK)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Location, value: object) -> None:
    """Writes a JSON file atomically; NaN and infinite values become null."""
    text = json_text(value)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def json_text(value: object) -> str:
    """What `write_json` writes."""
    return json.dumps(finite(value), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def version_of(path: Path) -> tuple[int, ...]:
    """What differs once a file has been written or replaced: its inode, size, times of content and status.

    A copy may have the size and the time of another content, as archives and `cp -p` set the latter. Nobody
    sets the time of the status.
    """
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def require_folder(path: Location) -> None:
    """Checks that a results folder is one, or can become one.

    Raises:
        UserError: it, or a folder that should hold it, is a file.
    """
    if isinstance(path, RemotePath):
        return
    found = next(place for place in (path, *path.parents) if place.exists())
    if not found.is_dir():
        raise UserError(f"{found} is a file, not a folder; choose another with --results")


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Holds the lock file of a results folder, so that no other process writes into the folder meanwhile.

    Raises:
        InUseError: another process holds it.
        UserError: the folder is a file, or cannot be written.
    """
    require_folder(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire(timeout=0)
    except Timeout:
        raise InUseError(f"another process is running in {path.parent}; wait for it or stop it") from None
    except OSError as error:
        raise UserError(
            f"{path.parent} cannot be written ({error.strerror}); choose another folder with --results"
        ) from None
    try:
        yield
    finally:
        lock.release()


@overload
def finite(value: Mapping[str, ValueT]) -> dict[str, ValueT]: ...
@overload
def finite(value: object) -> object: ...
def finite(value: object) -> object:
    """The same value with null for every float that JSON cannot represent."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
