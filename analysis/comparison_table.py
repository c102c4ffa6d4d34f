"""The comparison along an axis as a table for the terminal, 80 columns wide."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.comparisons import Row, caption
from analysis.findings.sentences import FOUR
from analysis.inference.intervals import TWO_SEEDS
from analysis.inference.power import MOST

WIDTH = 80
"""Columns of the printed table."""


def comparison_table(rows: Sequence[Row], axis: str) -> RenderableType:
    """A block of lines for each cell, the reference in its title, and what the numbers mean below."""
    blocks: list[RenderableType] = []
    for where, reference in dict.fromkeys((row.where, row.reference) for row in rows):
        own = [row for row in rows if (row.where, row.reference) == (where, reference)]
        alike = all(_rate(row, 0) == _rate(row, 1) for row in own)
        title = f"{where}: {axis} against {reference}{_rate(own[0], 1, of_all=alike)}"
        blocks.append(Text(title, style="italic"))
        blocks.append(_block(own, axis, rates=not alike))
        blocks += _seen(own)
    return Group(*blocks, *map(Text, caption(rows)))


def _block(rows: Sequence[Row], axis: str, rates: bool) -> Table:
    """A line for each row.

    Args:
        rates: whether they say at which rate, as not all have the reference's.
    """
    averaged = any(row.averaged is not None for row in rows)
    noisy = any(row.noise is not None for row in rows)
    ends = any(row.has_ends for row in rows)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), width=WIDTH)
    table.add_column(axis, overflow="fold", ratio=1)
    optional = {"95%": ends, "all rates": averaged, "twins": noisy}
    headers = ["differs by", *(name for name, shown in optional.items() if shown)]
    for header in [*headers, "p", "Holm", "seeds", "add"]:
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        cells = [
            row.value + (_rate(row, 0) if rates else ""),
            _signed(row.difference),
            *([_interval(row)] if ends else []),
            *([_signed(row.averaged)] if averaged else []),
            *(["" if row.noise is None else f"{row.noise:.2g}"] if noisy else []),
            *([f"{row.p:.3g}", f"{row.adjusted:.3g}"] if row.seeds > 1 else ["", ""]),
            str(row.seeds),
            _add(row),
        ]
        table.add_row(*map(Text, cells))
    return table


def _seen(rows: Sequence[Row]) -> list[RenderableType]:
    """The smallest difference that each row could have shown; in the table there is no room for it."""
    known = [f"{row.value} {row.detectable:.3f}" for row in rows if row.detectable is not None]
    return [Text(f"smallest detectable difference: {', '.join(known)}")] if known else []


def _rate(row: Row, side: int, of_all: bool = False) -> str:
    """The rate chosen on validation, and of how many."""
    if row.rates is None:
        return ""
    of = f", best of {row.budgets[side]}" if row.budgets[side] > 1 else ""
    return f" ({'all at ' if of_all else ''}rate {row.rates[side]}{of})"


def _interval(row: Row) -> str:
    """Its ends, or that all seeds are equal; nothing of one seed or of two that differ."""
    if row.interval is None or row.seeds < 2 or row.interval.missing == TWO_SEEDS:
        return ""
    return f"{row.interval.low:+.3f} to {row.interval.high:+.3f}" if row.has_ends else "equal"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _add(row: Row) -> str:
    """Seeds to add; nothing where the difference is found, or where the spread is hardly known yet."""
    if row.seeds < FOUR or row.more_seeds == 0:
        return ""
    return f">{MOST}" if row.more_seeds is None else f"+{row.more_seeds}"
