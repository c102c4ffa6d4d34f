"""Rows of users' files: JSON lines, JSON lists, CSV and Parquet, one at a time, with where each is.

A row that cannot be read is a `Malformed` in place of its value, so that whoever reads decides what is lost.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import pyarrow as pa

from softprior.errors import UserError
from softprior.inputs.data_files import Malformed, Number, contents, kind_of, lines, parquet_file, parsed

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Scalar

ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""Endings of files that have rows; all but the last also with .gz."""

_LONGEST_FIELD = 2**31 - 1
"""Letters of a field of CSV. Python's own limit, 131,072, would make longer ones malformed."""

_TOGETHER = 1024
"""Number of rows of a Parquet file that are in memory at a time."""


class Item(NamedTuple):
    """A row, or why it is none, and where it is."""

    at: str
    value: object


def rows(path: Path) -> Iterator[Item]:
    """The rows of a file, of the kind that its ending says.

    Rows of CSV and TSV are objects of texts by the names in the first line.

    Raises:
        UserError: it has another ending, another layout, or cannot be read.
    """
    kind = kind_of(path)
    if kind not in ENDINGS or path.name.endswith(".parquet.gz"):
        raise UserError(
            f"rows cannot be read from {path}, only from {', '.join(ENDINGS)}; convert it to one of these"
        )
    if kind == ".parquet":
        return parquet_rows(path)
    try:
        if kind in (".csv", ".tsv"):
            return _separated(path, contents(path), "," if kind == ".csv" else "\t")
        whole = contents(path) if kind == ".json" else ""
    except OSError as error:
        raise _unreadable(path, error) from None
    return _listed(path, whole) if whole.lstrip().startswith("[") else json_lines(path)


def json_lines(path: Path) -> Iterator[Item]:
    """The rows of JSON lines, without blank lines, read as they are asked for.

    Raises:
        UserError: the file is UTF-16 or UTF-32, or cannot be read.
    """
    try:
        for number, (_, line) in enumerate(lines(path)):
            if isinstance(line, Malformed):
                yield Item(f"line {number + 1}", line)
            elif line.strip():
                yield Item(f"line {number + 1}", parsed(line))
    except OSError as error:
        raise _unreadable(path, error) from None


def parquet_rows(path: Path, columns: Collection[str] | None = None) -> Iterator[Item]:
    """The rows of a Parquet file as objects, read as they are asked for.

    Args:
        columns: those to read, as far as there are any; None for all.

    Raises:
        UserError: the file is damaged.
    """
    file = parquet_file(path)
    names = [name for name in file.schema_arrow.names if columns is None or name in columns]
    number = 0
    try:
        for batch in file.iter_batches(_TOGETHER, columns=names):
            for row in range(batch.num_rows):
                yield Item(f"row {number}", _record(batch, row))
                number += 1
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged at row {number} ({error}); fetch it again") from None


def _listed(path: Path, whole: str) -> Iterator[Item]:
    try:
        found = json.loads(whole, parse_float=Number)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"{path} is not valid JSON ({reason}); mend it, or write JSON lines") from None
    return (Item(f"[{i}]", value) for i, value in enumerate(found))


def _separated(path: Path, whole: str, separator: str) -> Iterator[Item]:
    # What separates by tabs has no quotes: GLUE's texts have single ones. In strict mode a quote that is
    # never closed is an error; otherwise it would take the rest of the file into one field. Behind an error
    # nothing says which of the following quotes open and which close, so that reading on could take a piece
    # of a field for a row.
    csv.field_size_limit(_LONGEST_FIELD)
    quoted = separator == ","
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    file = io.StringIO(whole, newline="")
    reader = csv.reader(file, delimiter=separator, quoting=quoting, strict=quoted)
    names: list[str] | None = None
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            endless = "unexpected end of data" in str(error)
            what = "a quote that begins here is never closed" if endless else f"not valid CSV ({error})"
            yield Item(f"line {first}", Malformed(f"{what}, and the rest of the file is lost", rest=True))
            return
        if not fields:  # a blank line
            continue
        if names is None:
            names = _header(path, fields)
        elif len(fields) != len(names):
            reason = f"{len(fields)} fields, but the first line names {len(names)} columns"
            if reader.line_num > first:
                reason += f"; it goes on to line {reader.line_num}, as a quote is closed there"
            yield Item(f"line {first}", Malformed(reason))
        else:
            yield Item(f"line {first}", dict(zip(names, fields, strict=True)))


def _header(path: Path, names: list[str]) -> list[str]:
    twice = next((name for i, name in enumerate(names) if name and name in names[:i]), None)
    if twice is not None:
        raise UserError(f"the first line of {path} names the column '{twice}' twice; rename one of them")
    return names


def _record(batch: RecordBatch, row: int) -> object:
    """A row of a table; nothing guarantees that the text in a Parquet file is UTF-8."""
    try:
        return {name: _value(batch.column(name)[row]) for name in batch.schema.names}
    except UnicodeDecodeError as error:
        return Malformed(f"not UTF-8 ({error.reason})")


def _value(scalar: Scalar) -> object:
    """A value of a table. In single and half precision 0.1 is no 0.10000000149."""
    value = scalar.as_py()
    if value is None or not pa.types.is_floating(scalar.type) or pa.types.is_float64(scalar.type):
        return value
    return Number(str(scalar.type.to_pandas_dtype()(value)))


def rewritten(path: Path) -> bool:
    """Whether a file has numbers that were once read in another form than they are written in."""
    if kind_of(path) == ".parquet":
        return any(
            pa.types.is_floating(one) and not pa.types.is_float64(one)
            for one in parquet_file(path).schema_arrow.types
        )
    if kind_of(path) not in (".json", ".jsonl"):
        return False
    return any(str(number) != repr(float(number)) for item in rows(path) for number in _numbers(item.value))


def _numbers(value: object) -> Iterator[Number]:
    """The numbers of a row with a point or an exponent, in objects and lists too."""
    inside = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    for one in inside:
        yield from _numbers(one)
    if isinstance(value, Number) and math.isfinite(value):
        yield value


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be read ({error}); check the file and its disk")
