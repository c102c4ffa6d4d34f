"""Documents in files: lines of text, objects of JSON lines, rows of Parquet, and the position of each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from softprior.errors import UserError
from softprior.inputs.data_files import (
    Malformed,
    is_compressed,
    kind_of,
    lines,
    parquet_file,
    parsed,
    require_utf8,
    text_at,
    text_of,
)

KINDS = (".jsonl", ".json", ".txt", ".parquet")

BYTES_PER_TOKEN = 4
"""For English text, to cut files into parts before any of it is read."""

TOGETHER = 1024
"""Rows of a Parquet file that are in memory at once."""


COUNTED = 2**26
"""Bytes of a file in which lines are counted to name one: a moment's work, for each part again."""


def parts_of_file(path: Path, column: str, tokens: int) -> list[tuple[int, int, int]]:
    """The file in parts of about this many tokens: first, last (excluded), and approximate number of tokens.

    Parts are ranges of bytes, or of row groups in a Parquet file. A packed file is one part.

    Raises:
        UserError: a Parquet file is damaged or has no such column of texts, or a text is not UTF-8.
    """
    if kind_of(path) == ".parquet":
        return _row_groups(path, column, tokens)
    require_utf8(path)
    size = path.stat().st_size
    step = size if is_compressed(path) else tokens * BYTES_PER_TOKEN
    return [
        (start, min(start + step, size), min(step, size - start) // BYTES_PER_TOKEN)
        for start in range(0, size, max(step, 1))
    ]


class Row(NamedTuple):
    """A row of a part of a file.

    Attributes:
        name: its position, as part of the name of its document, by which samples are drawn.
        line: its line in the part, from 1; None in a table.
        document: its text.
    """

    name: str
    line: int | None
    document: str | Malformed


def rows(path: Path, column: str, first: int, last: int) -> Iterator[Row]:
    """The rows of a part; empty ones are passed over."""
    found = _table_rows if kind_of(path) == ".parquet" else _line_rows
    for row in found(path, column, first, last):
        if isinstance(row.document, Malformed) or row.document.strip():
            yield row


def place_of(row: Row, path: Path, first: int) -> str:
    """The position of a row of the part from `first` on, for people: its line, unless counting takes long.

    The place in a table is its name.
    """
    if row.line is None or first > COUNTED:
        return row.name
    return f"line {_lines_before(path, first) + row.line}"


@lru_cache
def _lines_before(path: Path, first: int) -> int:
    """Number of lines that start before a byte."""
    if not first:
        return 0
    with path.open("rb") as file:
        return 1 + file.read(first - 1).count(b"\n")


def _line_rows(path: Path, column: str, first: int, last: int) -> Iterator[Row]:
    for number, (at, line) in enumerate(lines(path, first, last), start=1):
        document = line if isinstance(line, Malformed) else line.strip()
        if isinstance(document, str) and document and kind_of(path) != ".txt":
            value = parsed(document)
            document = value if isinstance(value, Malformed) else text_at(value, column)
        yield Row(f"byte {at}", number, document)


def _table_rows(path: Path, column: str, first: int, last: int) -> Iterator[Row]:
    file = parquet_file(path)
    for group in range(first, last):
        row = count()
        for batch in file.iter_batches(TOGETHER, row_groups=[group], columns=[column]):
            for value in _values(batch.column(0)):
                yield Row(f"group {group} row {next(row)}", None, value)


def _values(column: pa.Array) -> Iterator[str | Malformed]:
    """The texts of a column; nobody checks that what a Parquet file calls text is UTF-8."""
    for value in column:
        try:
            yield text_of(value.as_py())
        except UnicodeDecodeError as error:
            yield Malformed(f"not UTF-8 ({error.reason} at its byte {error.start})")


def _row_groups(path: Path, column: str, tokens: int) -> list[tuple[int, int, int]]:
    facts = parquet_file(path).metadata
    schema = facts.schema.to_arrow_schema()
    if column not in schema.names:
        raise UserError(f"{path} has no column '{column}'; it has {', '.join(schema.names)}")
    # Chunks of data belong to leaves, of which a nested column in front has several.
    leaves = [facts.schema.column(i).path for i in range(len(facts.schema))]
    if column not in leaves:
        kind = schema.field(column).type
        raise UserError(f"the column '{column}' of {path} contains {kind}, not text; give a column of texts")
    at = leaves.index(column)
    sizes = [facts.row_group(g).column(at).total_uncompressed_size for g in range(facts.num_row_groups)]
    parts, first, filled = [], 0, 0
    for group, size in enumerate(sizes):
        filled += size // BYTES_PER_TOKEN
        if filled >= tokens or group == len(sizes) - 1:
            parts.append((first, group + 1, filled))
            first, filled = group + 1, 0
    return parts
