"""How a task's `data` names its source: an id of the catalogue, a hub id, or a path."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from softprior.errors import UserError, suggestion
from softprior.inputs.labels import counted
from softprior.tasks.base import Quarantined

REREAD = "-2"
"""The end of a fingerprint where the same bytes once gave other examples: rows that were left out then are
read now. Files that are read as before have no such end, so that their trials keep their ids."""


def is_path(data: str) -> bool:
    """Whether `data` is a path: it has a slash or a dot, and catalogue ids have neither."""
    return not data.startswith("hub:") and ("/" in data or "." in data)


def check_source(data: str, known: list[str], hub: bool) -> str:
    """`data` unchanged, for use in a field's validator.

    Args:
        known: the ids of the catalogue that this task reads.
        hub: whether `hub:owner/name` is also possible.

    Raises:
        ValueError: `data` is none of those, nor a path.
    """
    if "://" in data:
        raise ValueError("is an address; fetch the file, and give its path")
    if data in known or is_path(data) or (hub and data.startswith("hub:") and data.count("/") == 1):
        return data
    also = "a path (with a slash or a dot)" + (", or hub:owner/name" if hub else "")
    raise ValueError(f"is not a source of data; {suggestion(data, known)}; or {also}")


def require(path: Path) -> Path:
    """Returns the path if it is a file or a folder.

    Raises:
        UserError: it does not exist, or is a device or a pipe, which may have no end.
    """
    if path.is_file() or path.is_dir():
        return path
    if path.exists():
        raise UserError(f"{path} is neither a file nor a folder; copy its data into a file, and name that")
    folder = path.parent.resolve()
    if not folder.is_dir():
        raise UserError(f"{path} does not exist, and neither does its folder {folder}; correct the path")
    beside = sorted(p.name for p in folder.iterdir() if p.name[0] != ".")
    hint = suggestion(path.name, beside, files=True) if beside else "that folder is empty"
    raise UserError(f"the data file or folder {path} does not exist in {folder}; {hint}")


def require_filled(path: Path) -> Path:
    """Returns the path if it is a folder, or a file with anything in it.

    Raises:
        UserError: it does not exist, or is an empty file.
    """
    if require(path).is_file() and not path.stat().st_size:
        raise UserError(f"the data file {path} is empty (0 bytes); write data into it, or name another")
    return path


def contents_fingerprint(files: Iterable[Path]) -> str:
    """Sixteen hexadecimal digits of a SHA-256 over names and bytes of the files.

    Raises:
        UserError: one of them does not exist or cannot be read.
    """
    whole = hashlib.sha256()
    for file in files:
        try:
            with require(file).open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error}); check the file and its disk") from None
        whole.update(f"{file.name}\0{digest}\0".encode())
    return whole.hexdigest()[:16]


def left_out(name: str, number: int, quarantine: Sequence[Quarantined]) -> list[str]:
    """Sentences about the malformed rows of a task's data and the files that are damaged, if there are any.

    Args:
        name: the task's.
        number: of malformed rows and damaged files.
        quarantine: the first of the rows, and all of the files; empty if a record does not name them.
    """
    return [f"{name}: {part}" for part in _lost(number, quarantine)]


def in_brackets(quarantine: Sequence[Quarantined]) -> str:
    """The same inside of a sentence; empty where nothing is lost."""
    parts = _lost(len(quarantine), quarantine)
    return f" ({'; '.join(parts)})" if parts else ""


def _lost(number: int, quarantine: Sequence[Quarantined]) -> list[str]:
    damaged = [row for row in quarantine if row.rest]
    rows = [row for row in quarantine if not row.rest]
    single = number - len(damaged)
    first = f", the first {where(rows[0])}" if rows else ""
    parts = [f"{counted(single, 'malformed row')} left out{first}"] if single else []
    return parts + [f"{where(row)}; mend it or fetch it again" for row in damaged]


def where(row: Quarantined) -> str:
    """A malformed row and what is wrong with it, for a sentence."""
    return f"in {Path(row.file).name}, {row.index}: {row.reason}"
