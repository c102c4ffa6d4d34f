"""The comparison along an axis as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from analysis.comparisons import Row, caption
from analysis.findings.sentences import FOUR
from analysis.inference.intervals import TWO_SEEDS
from analysis.inference.power import MOST
from analysis.narrow import Column, tables
from softprior.inputs.labels import counted


def comparison_table(rows: Sequence[Row], axis: str, width: int) -> RenderableType:
    """A block of lines for each cell, and what the numbers mean below.

    Its title has the reference and what all rows share. Names wrap and no number is cut: columns for which a
    narrow window has no room stand in a second table below.
    """
    blocks: list[RenderableType] = []
    for where, reference in dict.fromkeys((row.where, row.reference) for row in rows):
        own = [row for row in rows if (row.where, row.reference) == (where, reference)]
        alike = all(_rate(row, 0) == _rate(row, 1) for row in own)
        title = f"{where}: {axis} against {reference}{_rate(own[0], 1, of_all=alike)}{_shared(own)}"
        blocks.append(Text(title, style="italic"))
        blocks += tables(_columns(own, axis, rates=not alike), width)
        blocks += _seen(own)
    return Group(*blocks, *map(Text, caption(rows)))


def _columns(rows: Sequence[Row], axis: str, rates: bool) -> list[Column]:
    """Those that differ between rows.

    Args:
        rates: whether rows say at which rate, as not all have the reference's.
    """
    tested = [row.seeds > 1 for row in rows]
    seeds, noise = _seeds(rows), _noise(rows)
    return [
        Column(axis, [row.value for row in rows], names=True),
        Column("rate", [_own_rate(row) if rates else "" for row in rows], names=True),
        Column("differs by", [_signed(row.difference) for row in rows]),
        Column("95%", [_interval(row) for row in rows] if any(row.has_ends for row in rows) else [""]),
        Column("all rates", [_signed(row.averaged) for row in rows]),
        Column("p", [f"{row.p:.3g}" if own else "" for row, own in zip(rows, tested, strict=True)]),
        Column("Holm", [f"{row.adjusted:.3g}" if own else "" for row, own in zip(rows, tested, strict=True)]),
        *([Column("seeds", seeds)] if len(set(seeds)) > 1 else []),
        Column("add", [_add(row) for row in rows]),
        *([Column("twins", noise)] if len(set(noise)) > 1 else []),
    ]


def _shared(rows: Sequence[Row]) -> str:
    """Numbers that all rows have alike: `; 14 seeds; twins 0.0012`."""
    seeds, noise = set(_seeds(rows)), set(_noise(rows))
    told = [counted(rows[0].seeds, "seed")] if len(seeds) == 1 else []
    told += [f"twins {text}" for text in noise if text and len(noise) == 1]
    return "".join(f"; {text}" for text in told)


def _seeds(rows: Sequence[Row]) -> list[str]:
    return [str(row.seeds) for row in rows]


def _noise(rows: Sequence[Row]) -> list[str]:
    """What rounding alone does to a difference."""
    return ["" if row.noise is None else f"{row.noise:.2g}" for row in rows]


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


def _own_rate(row: Row) -> str:
    """The rate of a row, and of how many if that is not the reference's number."""
    if row.rates is None:
        return ""
    return row.rates[0] + (f", best of {row.budgets[0]}" if row.budgets[0] != row.budgets[1] else "")


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
