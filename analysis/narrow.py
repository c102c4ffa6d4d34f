"""Tables that fit a window: names wrap, numbers do not, and columns that do not fit go below."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

GAPS = (2, 1)
"""Blanks between columns, and in a narrow window."""

WORDS = re.compile(r"(?<=[ (])(?=\S)")
"""Where a name is broken first: between words, and where parameters begin."""

PARTS = re.compile(r"(?<=[=/])(?=\S)|(?<=[.,])(?=[a-z])")
"""Where a word is broken that is wider than its column. Numbers stay whole."""


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        head: its name.
        cells: one per row.
        names: whether they are names, which may wrap, and not numbers.
    """

    head: str
    cells: Sequence[str]
    names: bool = False


def tables(columns: Sequence[Column], width: int) -> list[Table]:
    """The columns as a table, or as several that repeat the first column if one would be too wide.

    Columns with nothing in them are left out.
    """
    told = [column for column in columns if any(column.cells)]
    for gap in GAPS:
        if _room(told, width, gap) >= 0:
            return [_table(told, width, gap)] if told else []
    groups = [told[:1]]
    for column in told[1:]:
        if _room([*groups[-1], column], width, GAPS[0]) < 0 and len(groups[-1]) > 1:
            groups.append(told[:1])
        groups[-1].append(column)
    return [_table(group, width, GAPS[0]) for group in groups]


def _table(columns: Sequence[Column], width: int, gap: int) -> Table:
    # No lines between columns, which would take a third of a narrow window.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    widths = _widths(columns, width, gap)
    for column, own in zip(columns, widths, strict=True):
        table.add_column(
            _wrapped(column.head, own), width=own, no_wrap=True, justify="left" if column.names else "right"
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        pairs = zip(columns, row, widths, strict=True)
        table.add_row(*(Text(_wrapped(cell, own) if c.names else cell) for c, cell, own in pairs))
    return table


def _room(columns: Sequence[Column], width: int, gap: int) -> int:
    """Characters that are left of the width; negative if the columns do not fit, however narrow."""
    return width - sum(map(_least, columns)) - gap * (len(columns) - 1)


def _widths(columns: Sequence[Column], width: int, gap: int) -> list[int]:
    """Widths of the columns, the widest narrowed first as far as it goes."""
    least = [_least(column) for column in columns]
    widths = [max(map(cell_len, (column.head, *column.cells))) for column in columns]
    while sum(widths) + gap * (len(columns) - 1) > width:
        wide = [i for i, own in enumerate(widths) if own > least[i]]
        if not wide:
            break
        widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def _least(column: Column) -> int:
    cells = [piece for cell in column.cells for piece in _pieces(cell)] if column.names else column.cells
    return max(cell_len(text.rstrip()) for text in (*cells, *_pieces(column.head), ""))


def _pieces(text: str) -> list[str]:
    """What is never broken."""
    return [part for word in WORDS.split(text) for part in PARTS.split(word)]


def _wrapped(text: str, width: int) -> str:
    """A name on lines of at most `width` characters."""
    lines = [""]
    for word in WORDS.split(text):
        for part in [word] if cell_len(word.rstrip()) <= width else PARTS.split(word):
            if lines[-1] and cell_len((lines[-1] + part).rstrip()) > width:
                lines.append("")
            lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)
