"""Documents in files: lines of text, objects of JSON lines, rows of Parquet, and where each stands."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from softprior.errors import UserError

KINDS = (".jsonl", ".json", ".txt", ".parquet")

BYTES_PER_TOKEN = 4
"""Of English text, to cut files into parts before any of it is read."""

TOGETHER = 1024
"""Rows of a Parquet file that are held at once."""


@dataclass(frozen=True)
class Malformed:
    """A row that is no document, and why."""

    reason: str


def kind_of(path: Path) -> str:
    """The file's ending, without the `.gz` of a packed one."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix


def parts_of_file(path: Path, column: str, tokens: int) -> list[tuple[int, int, int]]:
    """The file in parts of about so many tokens: first, last (excluded), and how many tokens, about.

    Parts are of bytes, of a Parquet file of row groups. A packed file is one part.

    Raises:
        UserError: a Parquet file is damaged or has no such column.
    """
    if kind_of(path) == ".parquet":
        return _row_groups(path, column, tokens)
    size = path.stat().st_size
    step = size if path.suffix == ".gz" else tokens * BYTES_PER_TOKEN
    return [
        (start, min(start + step, size), min(step, size - start) // BYTES_PER_TOKEN)
        for start in range(0, size, max(step, 1))
    ]


def rows(path: Path, column: str, first: int, last: int) -> Iterator[tuple[str, str | Malformed]]:
    """Where each row of a part stands, and its document; empty ones are passed over."""
    if kind_of(path) == ".parquet":
        file = parquet.ParquetFile(path)
        for group in range(first, last):
            row = count()
            for batch in file.iter_batches(TOGETHER, row_groups=[group], columns=[column]):
                for value in batch.column(0).to_pylist():
                    yield from _checked(f"group {group} row {next(row)}", value)
        return
    for start, line in _lines(path, first, last):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            yield f"byte {start}", Malformed(f"not UTF-8 ({error.reason} at its byte {error.start})")
            continue
        if kind_of(path) == ".txt" or not text:
            yield from _checked(f"byte {start}", text)
            continue
        try:
            value = json.loads(text)
        except ValueError as error:
            yield f"byte {start}", Malformed(f"not valid JSON ({error})")
            continue
        if not isinstance(value, dict):
            yield f"byte {start}", Malformed("not an object")
        elif column not in value:
            known = ", ".join(value) or "nothing"
            yield f"byte {start}", Malformed(f"no '{column}'; it has {known}")
        else:
            yield from _checked(f"byte {start}", value[column])


def _checked(place: str, value: Any) -> Iterator[tuple[str, str | Malformed]]:
    if not isinstance(value, str):
        yield place, Malformed(f"no text but {str(value)[:40]}")
    elif value.strip():
        yield place, value


def _row_groups(path: Path, column: str, tokens: int) -> list[tuple[int, int, int]]:
    try:
        facts = parquet.ParquetFile(path).metadata
        names = facts.schema.to_arrow_schema().names
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged or not a Parquet file: {error}") from None
    if column not in names:
        raise UserError(f"{path} has no column '{column}'; it has {', '.join(names)}")
    at = names.index(column)
    sizes = [facts.row_group(g).column(at).total_uncompressed_size for g in range(facts.num_row_groups)]
    parts, first, filled = [], 0, 0
    for group, size in enumerate(sizes):
        filled += size // BYTES_PER_TOKEN
        if filled >= tokens or group == len(sizes) - 1:
            parts.append((first, group + 1, filled))
            first, filled = group + 1, 0
    return parts


def _lines(path: Path, first: int, last: int) -> Iterator[tuple[int, bytes]]:
    """The lines that start at a byte from `first` to before `last`, and where."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        if path.suffix == ".gz":
            last = 2**63
        elif first:
            file.seek(first - 1)
            file.readline()  # the end of a line that starts in the shard before
        at = file.tell()
        while at < last and (line := file.readline()):
            yield at, line
            at += len(line)
