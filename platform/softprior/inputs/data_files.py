"""Users' data files: text, JSON lines and Parquet, compressed or not, and what cannot be read in them.

Everything that reads documents or questions from files opens them here, so that every task and job treats
byte-order marks, odd rows and damaged archives the same way. A line ends with \\n or \\r\\n; a carriage
return alone is a character like any other.
"""

from __future__ import annotations

import codecs
import difflib
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as parquet

from softprior.errors import UserError

DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)
"""What unpacking a damaged gzip file raises. A failing disk raises others, which do not concern the file."""

DEEPEST = 500
"""Maximum nesting of a JSON row. Python's own limit counts the calls around it, so that one process would
read a row that another rejects."""

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Byte-order marks; that of UTF-16 is the beginning of UTF-32's, which therefore stands first."""

_START = 4096
"""Number of bytes of a file from which its encoding is detected."""

_NULS = 0.3
"""Share of NUL bytes from which a text is not UTF-8: in UTF-16 of Latin letters it is a half."""

_SHOWN = 12
"""Number of keys of a row that a reason names."""

_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{\]}]')
_LONE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Malformed:
    """A row that cannot be used, and why.

    Attributes:
        reason: on one line, in a form that can be written anywhere, whatever of the row is in it.
        rest: whether all that follows in the file is lost with it.
        twice: whether it stands for values of one name, of which the last was once read.
    """

    reason: str
    rest: bool = False
    twice: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", plain(self.reason))


class Number(float):
    """A number with a point or an exponent, which stays as it is written: 1.50 is not 1.5 as a text."""

    text: str

    def __new__(cls, text: str) -> Number:
        found = super().__new__(cls, text)
        found.text = text
        return found

    def __str__(self) -> str:
        return self.text


class Line(NamedTuple):
    """A line of a file.

    Attributes:
        at: position of its first byte; in a packed file, within the contents.
        text: with its line break.
    """

    at: int
    text: str | Malformed


def kind_of(path: Path) -> str:
    """The file's ending, without the `.gz` of a packed one."""
    return (path.with_suffix("") if is_compressed(path) else path).suffix


def is_compressed(path: Path) -> bool:
    """Whether it is a gzip file by its name."""
    return path.suffix == ".gz"


def require_utf8(path: Path) -> None:
    """Rejects text in another Unicode encoding; single bytes that are not UTF-8 only concern their row.

    Raises:
        UserError: the file is UTF-16 or UTF-32.
    """
    start = _start(path)
    found = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
    if found is None and start and start.count(0) / len(start) > _NULS:
        found = "full of NUL bytes, as UTF-16 is"
    if found is not None:
        raise UserError(
            f"text must be UTF-8, but {path} is {found}; convert it, such as with iconv -f UTF-16 -t UTF-8"
        )


def has_mark(path: Path) -> bool:
    """Whether it begins with the byte-order mark of UTF-8, which is skipped."""
    return _start(path).startswith(codecs.BOM_UTF8)


def lines(path: Path, first: int = 0, last: int = 2**63) -> Iterator[Line]:
    """The lines that start at a byte from `first` to before `last`; all lines of a packed file.

    What comes before the damage in a damaged gzip file is read; the rest is one malformed line.

    Raises:
        UserError: the file is UTF-16 or UTF-32.
        OSError: it cannot be read.
    """
    require_utf8(path)
    with _opened(path) as file:
        if is_compressed(path):
            last = 2**63
        elif first:
            file.seek(first - 1)
            file.readline()  # the end of a line that starts before
        at = file.tell()
        while at < last:
            try:
                line = file.readline()
            except DAMAGE as error:
                reason = f"the file is damaged here ({error}), and the rest of it is lost"
                yield Line(at, Malformed(reason, rest=True))
                return
            if not line:
                return
            yield Line(at, decoded(line.removeprefix(codecs.BOM_UTF8) if at == 0 else line))
            at += len(line)


def contents(path: Path) -> str:
    """A whole text with line breaks as \\n. Bytes that are not UTF-8 become lone surrogates.

    Raises:
        UserError: it is UTF-16 or UTF-32, or a damaged gzip file.
        OSError: it cannot be read.
    """
    require_utf8(path)
    try:
        with _opened(path) as file:
            whole = file.read()
    except DAMAGE as error:
        raise UserError(f"{path} is a damaged gzip file ({plain(str(error))}); fetch it again") from None
    text = whole.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    return text.replace("\r\n", "\n")


def decoded(line: bytes) -> str | Malformed:
    """UTF-8 as text."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        return Malformed(f"not UTF-8 ({error.reason} at its byte {error.start})")


def sound(text: str) -> str | Malformed:
    """The text, unless it contains lone surrogates, which no tokenizer accepts."""
    found = None if text.isascii() else _LONE.search(text)
    if found is None:
        return text
    try:
        # As `contents` shows bytes; a row of JSON may also spell them out, and then they are not bytes.
        byte = decoded(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        byte = text
    if isinstance(byte, Malformed):
        return byte
    return Malformed(f"half a character ('\\u{ord(found.group()):04x}', a lone surrogate)")


def parsed(text: str) -> object:
    """A row of JSON, or as `Malformed` why it is not one; its objects are those of `object_of`."""
    if text.count("[") + text.count("{") > DEEPEST and _too_deep(text):
        return Malformed(f"nested deeper than {DEEPEST} levels")
    try:
        return json.loads(text, parse_float=Number, object_pairs_hook=object_of)
    except json.JSONDecodeError as error:
        return Malformed(f"not valid JSON ({error.msg}, character {error.pos})")
    except RecursionError:
        return Malformed("nested too deep")
    except ValueError:  # what Python says of an integer of more digits than it turns into a number
        return Malformed("not valid JSON (a number has more than 4,300 digits)")


def parsed_whole(text: str) -> Any:
    """A JSON value with many rows in it, read as `parsed` reads each.

    A number of more digits than Python converts is malformed, and costs only who reads it.

    Raises:
        json.JSONDecodeError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, parse_int=_integer, parse_float=Number, object_pairs_hook=object_of)


def _integer(digits: str) -> object:
    try:
        return int(digits)
    except ValueError:
        return Malformed("a number has more than 4,300 digits")


def object_of(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a row of JSON; a name that is there twice is malformed, and costs only who reads it."""
    found = dict(members)
    if len(found) < len(members):
        counts = Counter(name for name, _ in members)
        found |= {
            name: Malformed(f"'{name}' is there twice", twice=True) for name, n in counts.items() if n > 1
        }
    return found


def text_at(row: object, column: str) -> str | Malformed:
    """The text of a row's column, which may be empty."""
    if not isinstance(row, dict):
        return Malformed(plain(f"not an object but {str(row)[:40]}"))
    return text_of(row[column]) if column in row else without(column, tuple(map(str, row)))


@lru_cache(maxsize=64)  # all rows of a file may lack it
def without(column: str, names: tuple[str, ...]) -> Malformed:
    """Says that a row with columns of these names does not have another one."""
    alike = [name for name in names if name.casefold() == column.casefold()]
    close = alike or difflib.get_close_matches(column, names, n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    # A space at an end of a name cannot be seen without quotes.
    known = [name if name == name.strip() else f"'{name}'" for name in names[:_SHOWN]]
    return Malformed(f"no '{column}'{hint}; it has {', '.join(known) or 'nothing'}")


def text_of(value: object) -> str | Malformed:
    """A value that must be a text, which may be empty."""
    if isinstance(value, Malformed):
        return value
    if isinstance(value, dict | list):
        return Malformed(f"not a text but {'an object' if isinstance(value, dict) else 'a list'}")
    return sound(value) if isinstance(value, str) else Malformed(f"not a text: {str(value)[:40]}")


def parquet_file(path: Path) -> parquet.ParquetFile:
    """A Parquet file, opened.

    Raises:
        UserError: it is damaged or not a Parquet file, or has two columns of one name.
    """
    try:
        found = parquet.ParquetFile(path)
        counts = Counter(found.schema_arrow.names)
    except (OSError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise UserError(
            f"{path} is damaged or not a Parquet file: {reason}; write or fetch it again"
        ) from None
    twice = next((name for name, number in counts.items() if number > 1), None)
    if twice is not None:
        raise UserError(f"{path} has the column '{twice}' twice; rename one of them")
    return found


def _opened(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path, "rb") if is_compressed(path) else path.open("rb")


def _start(path: Path) -> bytes:
    """The first bytes, as far as they can be unpacked."""
    try:
        with _opened(path) as file:
            return file.read(_START)
    except DAMAGE:
        return b""


def _too_deep(text: str) -> bool:
    depth = 0
    for found in _STRUCTURE.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found.group(), 0)
        if depth > DEEPEST:
            return True
    return False


def plain(text: str) -> str:
    """The text on one line, in a form that can be written anywhere."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode("utf-8").split())
