"""Texts composed of columns of a row: `{question}\\nAnswer:`. Columns are looked up, nothing is evaluated."""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from softprior.inputs.data_files import Malformed, Number, sound, without
from softprior.inputs.row_files import by_column

LONGEST = 4000
"""Digits of an integer that is written out; Python writes 4,300 at most."""

Row = Mapping[str, object]
"""A row by column; a column inside of an object is called `object.column`."""


class Part(NamedTuple):
    """A piece of a template: a text as it is, and the column that follows it, if any."""

    literal: str
    column: str | None


@lru_cache
def parts(template: str) -> tuple[Part, ...]:
    """The pieces of a template in order.

    Raises:
        ValueError: a brace is not closed, or there is more in braces than the name of a column.
    """
    try:
        found = tuple(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(
            f"has a brace too many, or a column with [ in its name ({error}); write {{{{ and }}}} for braces "
            "in the text, or rename the column"
        ) from None
    for _, name, form, conversion in found:
        inside = f"{name}{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}"
        if name is not None and (form or conversion or not name.strip() or set("[]{}") & set(name)):
            raise ValueError(
                f"has '{{{inside}}}', but only the name of a column can be in braces, without : ! [ and ]; "
                "rename the column, or write {{ and }} for braces in the text"
            )
    pieces = []
    before = ""
    for literal, name, _, _ in found:  # an escaped brace ends a literal, too
        before += literal
        if name is not None:
            pieces.append(Part(before, name))
            before = ""
    return (*pieces, Part(before, None)) if before else tuple(pieces)


def _checked(template: str) -> str:
    if not template.strip():
        raise ValueError("must not be empty; name a column, or write a text with columns in braces")
    template = template if set("{}") & set(template) else f"{{{template}}}"
    if not columns(template):
        raise ValueError("names no column; write one in braces, such as {question}")
    return template


Template = Annotated[str, AfterValidator(_checked)]
"""A text with columns in braces, or one column's name, which is written out with braces."""


def columns(template: str) -> tuple[str, ...]:
    """The columns of a template, in order."""
    return tuple(dict.fromkeys(part.column for part in parts(template) if part.column is not None))


def only_column(template: str) -> str | None:
    """The column that a template consists of; None if there is a text around it, or another column."""
    found = parts(template)
    return found[0].column if len(found) == 1 and not found[0].literal else None


def filled(template: str, row: Row) -> str | Malformed:
    """The text, with the row's columns in place. Columns may be empty, but not all of them."""
    values = {name: cell(row, name) for name in columns(template)}
    malformed = next((value for value in values.values() if isinstance(value, Malformed)), None)
    if malformed is not None:
        return malformed
    texts = {name: str(value) for name, value in values.items()}
    if not any(text.strip() for text in texts.values()):
        return Malformed(f"{' and '.join(map(repr, texts))} {'is' if len(texts) == 1 else 'are'} empty")
    return "".join(part.literal + texts.get(part.column or "", "") for part in parts(template))


def bare(template: str) -> str:
    """The template's own text, without any column."""
    return "".join(part.literal for part in parts(template))


def spans(template: str, text: str) -> Iterator[tuple[int, int]]:
    """Where the template's own text is in what it has been filled to, as start and end characters.

    Found from the end, so that a column which contains the same words is only mistaken for the template in
    front of another column.
    """
    pieces = parts(template)
    closing = pieces[-1].literal if pieces[-1].column is None else ""
    opening, *inner = [part.literal for part in pieces if part.column is not None]
    end = len(text) - len(closing)
    found = [(end, len(text))]
    for literal in reversed(inner):
        start = text.rfind(literal, len(opening), end)
        found.append((start, start + len(literal)))
        end = start
    found.append((0, len(opening)))
    yield from ((start, stop) for start, stop in reversed(found) if stop > start)


def cell(row: Row, column: str) -> str | Malformed:
    """The text of a row's column, which may be empty; a number as it is written."""
    if column in row:
        return _text(row[column], column)
    whole = row.get(column.partition(".")[0])
    return whole if isinstance(whole, Malformed) else without(column, tuple(map(str, row)))


def cells(row: Row, column: str) -> tuple[str, ...] | Malformed:
    """The texts of a row's column that has a list; those of one that has a single text."""
    value = row.get(column)
    if not isinstance(value, list):
        single = cell(row, column)
        return single if isinstance(single, Malformed) else (single,)
    if not value:
        return Malformed(f"'{column}' is an empty list")
    found = [_text(one, column) for one in value]
    malformed = next((one for one in found if isinstance(one, Malformed)), None)
    return malformed or tuple(str(one) for one in found)


def flat(value: object) -> Row | Malformed:
    """A row by column, with the columns of objects inside of it; one that is there twice is malformed."""
    if isinstance(value, Malformed):
        return value
    if not isinstance(value, dict):
        return Malformed(f"not an object but {str(value)[:40]}")
    found = by_column(value)
    counts = Counter(name for name, _ in found)
    return {name: one if counts[name] == 1 else _twice(name) for name, one in found}


def _twice(name: str) -> Malformed:
    return Malformed(f"'{name}' is two columns, one of them in an object; rename one")


def by_value(row: Row) -> Row:
    """The row with its numbers in one form each: 1.5 and 1.50 are the same, and so are 12 and 12.0."""
    return {name: _in_one_form(value) for name, value in row.items()}


def by_float(row: Row) -> Row:
    """What `by_value` once was: integers stayed apart, and long numbers became the nearest float."""
    return {name: float(value) if isinstance(value, Number) else value for name, value in row.items()}


def _in_one_form(value: object) -> object:
    """A number with the value of an integer as an integer, any other without zeros at its end."""
    if not isinstance(value, float | Decimal):
        return value
    exact = Decimal(str(value))
    if not exact.is_finite():
        return value
    sign, digits, exponent = exact.as_tuple()
    assert isinstance(exponent, int)
    shown = "".join(map(str, digits)).rstrip("0")
    if not shown:
        return 0
    exponent += len(digits) - len(shown)
    if exponent >= 0 and len(shown) + exponent <= LONGEST:
        return (-1) ** sign * int(shown + "0" * exponent)
    return Decimal((sign, tuple(map(int, shown)), exponent))


def _text(value: object, column: str) -> str | Malformed:
    if isinstance(value, Malformed):
        return value
    if value is None:
        return Malformed(f"'{column}' is missing (null)")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | Decimal):
        if not (value == value and abs(value) != math.inf):
            return Malformed(f"'{column}' is not a number ({float(value)})")
        try:
            return str(value)
        except ValueError:  # an integer of more digits than Python writes
            return Malformed(f"'{column}' has more than 4,300 digits")
    if not isinstance(value, str):
        kind = "a list" if isinstance(value, list) else str(value)[:40]
        kind = "an object" if isinstance(value, dict) else kind
        return Malformed(f"'{column}' is not a text or a number but {kind}")
    text = sound(value)
    return Malformed(f"'{column}' is {text.reason}") if isinstance(text, Malformed) else text
