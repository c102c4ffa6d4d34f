"""Rows of users' files: JSON lines, JSON lists, CSV and Parquet, one at a time, with where each is.

A row that cannot be read is a `Malformed` in place of its value, so that whoever reads decides what is lost.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pyarrow as pa

from softprior.errors import UserError
from softprior.inputs.data_files import (
    Malformed,
    Number,
    contents,
    kind_of,
    lines,
    parquet_file,
    parsed,
    parsed_whole,
    sound,
)

if TYPE_CHECKING:
    from pyarrow import DataType, RecordBatch

ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""Endings of files that have rows; all but the last also with .gz."""

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
"""What may separate columns, in words. Only the first two are read."""

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
        only_case = kind not in ENDINGS and kind.lower() in ENDINGS
        remedy = "write the ending in small letters" if only_case else "convert it to one of these"
        raise UserError(f"rows cannot be read from {path}, only from {', '.join(ENDINGS)}; {remedy}")
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
            if number == 0 and isinstance(line, str) and isinstance(parsed(line), Malformed):
                _require_line_feeds(path, line)
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
        found = parsed_whole(whole)
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
    _require_line_feeds(path, whole)
    _require_separator(path, whole.lstrip("\n").partition("\n")[0], separator, quoting)
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


def _require_line_feeds(path: Path, text: str) -> None:
    """Refuses a text whose lines end with carriage returns alone, as very old programs write them.

    Raises:
        UserError: it is one.
    """
    if "\r" in text.rstrip("\r") and "\n" not in text:
        raise UserError(
            f"lines must end with line feeds, but those of {path} end with carriage returns alone; convert "
            "it, such as with tr '\\r' '\\n'"
        )


def _require_separator(path: Path, header: str, separator: str, quoting: Literal[0, 3]) -> None:
    """Refuses a file whose first line has another separator than its ending says.

    Raises:
        UserError: it is one column, but several with another separator.
    """

    def count(by: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=by, quoting=quoting), []))
        except csv.Error:  # what it is is said of the line, when it is read
            return 0

    other = next((one for one in SEPARATORS if count(one) > 1), None)
    if count(separator) > 1 or other is None:
        return
    ending = {",": ".csv", "\t": ".tsv"}
    if other in ending:
        remedy = f"rename it to {ending[other]}"
    else:
        remedy = (
            f"write it again with {SEPARATORS[separator]} (in pandas: read_csv(FILE, sep='{other}'), then "
            f"to_csv(FILE, sep={separator!r}, index=False)), and decimal commas as points"
        )
    raise UserError(
        f"columns of {ending[separator]} files are separated by {SEPARATORS[separator]}, but the first line "
        f"of {path} has {SEPARATORS[other]}; {remedy}"
    )


def _header(path: Path, names: list[str]) -> list[str]:
    if names[0].lstrip().startswith("{"):
        raise UserError(f"the first line of {path} is JSON and not names of columns; rename it to .jsonl")
    for name in names:
        text = sound(name)
        if isinstance(text, Malformed) or "\0" in name:
            raise UserError(f"the first line of {path} is not text in UTF-8; save the table as CSV in UTF-8")
    twice = next((name for i, name in enumerate(names) if name and name in names[:i]), None)
    if twice is not None:
        raise UserError(f"the first line of {path} names the column '{twice}' twice; rename one of them")
    return names


def _record(batch: RecordBatch, row: int) -> object:
    """A row of a table; nothing guarantees that the text in a Parquet file is UTF-8."""
    found: dict[str, object] = {}
    for i, field in enumerate(batch.schema):
        try:
            found[field.name] = as_typed(batch.column(i)[row].as_py(), field.type)
        except UnicodeDecodeError as error:
            return Malformed(f"not UTF-8 ({error.reason})")
        except ValueError as error:  # of two members of one name, or a date that Python does not have
            found[field.name] = Malformed(f"'{field.name}' cannot be read ({str(error).rstrip('.')})")
    return found


def as_typed(value: object, kind: DataType) -> object:
    """A value of a table with that of its numbers in their precision: 0.1 is no 0.10000000149.

    Args:
        kind: its type in Arrow; lists and structures are followed.
    """
    if pa.types.is_dictionary(kind):
        return as_typed(value, kind.value_type)
    if isinstance(value, float) and _is_short(kind):
        return Number(str(kind.to_pandas_dtype()(value)))
    if isinstance(value, list) and _is_list(kind):
        return [as_typed(one, kind.value_type) for one in value]
    if isinstance(value, dict) and pa.types.is_struct(kind):
        kinds = {field.name: field.type for field in kind}
        return {name: as_typed(one, kinds[name]) if name in kinds else one for name, one in value.items()}
    return value


def _is_short(kind: DataType) -> bool:
    """Whether it is that of numbers in less than double precision."""
    return bool(pa.types.is_floating(kind) and not pa.types.is_float64(kind))


def _is_list(kind: DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _has_short(kind: DataType) -> bool:
    """Whether `as_typed` changes numbers in it."""
    if pa.types.is_dictionary(kind) or _is_list(kind):
        return _has_short(kind.value_type)
    return any(_has_short(field.type) for field in kind) if pa.types.is_struct(kind) else _is_short(kind)


def by_column(row: Mapping[Any, object]) -> list[tuple[str, object]]:
    """The columns of a row; those inside of an object as `object.column`. A name may be there twice."""
    found: list[tuple[str, object]] = []
    for name, value in row.items():
        if isinstance(value, dict):
            found += [(f"{name}.{key}", one) for key, one in value.items()]
        else:
            found.append((str(name), value))
    return found


def _doubled(row: object) -> bool:
    found = by_column(row) if isinstance(row, dict) else []
    twice = any(isinstance(one, Malformed) for _, one in found)  # in one object
    return twice or len({name for name, _ in found}) < len(found)


def rewritten(path: Path) -> bool:
    """Whether a file has rows that were once read otherwise.

    These have numbers in another form than they are now shown in, or a column that is there twice, of which
    the last was read.
    """
    if kind_of(path) == ".parquet":
        schema = parquet_file(path).schema_arrow
        inner = {
            one.name: {part.name: None for part in one.type} if pa.types.is_struct(one.type) else None
            for one in schema
        }
        return _doubled(inner) or any(map(_has_short, schema.types))
    if kind_of(path) not in (".json", ".jsonl"):
        return False
    return any(
        _doubled(item.value) or any(str(number) != repr(float(number)) for number in _numbers(item.value))
        for item in rows(path)
    )


def _numbers(value: object) -> Iterator[Number]:
    """The numbers of a row with a point or an exponent, in objects and lists too."""
    inside = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    for one in inside:
        yield from _numbers(one)
    if isinstance(value, Number):
        yield value


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be read ({error}); check the file and its disk")
