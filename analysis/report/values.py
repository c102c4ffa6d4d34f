"""What a report says, as values: sections of sentences, tables and pictures. Nothing here reads a file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what stands in it.
        order: the number by which its column is sorted; None for words.
        trials: ids of the trials that the number comes from, linked within the page. Every number in a table
            has some.
        strong: whether it is set off, such as the rate chosen on validation.
        flag: a class of the style sheet for verdicts: `good`, `bad`, `open`, or nothing.
    """

    text: str
    order: float | None = None
    trials: tuple[str, ...] = ()
    strong: bool = False
    flag: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with a caption that says what its numbers are and where they stand.

    Attributes:
        columns: names; the first column is the row's own name.
        numbers: indices of columns that are set flush right.
        under: indices of columns that stand under another one, whose index is the value, to save width.
        opened: indices of columns that a row shows once it is opened, below its others.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numbers: frozenset[int] = frozenset()
    under: Mapping[int, int] = field(default_factory=dict)
    opened: frozenset[int] = frozenset()

    @property
    def shown(self) -> tuple[int, ...]:
        """Indices of the columns that have a width of their own."""
        return tuple(i for i in range(len(self.columns)) if i not in self.under and i not in self.opened)

    def below(self, column: int) -> tuple[int, ...]:
        """Indices of the columns that stand under one."""
        return tuple(i for i, above in self.under.items() if above == column)

    def more(self, row: Sequence[Cell]) -> tuple[int, ...]:
        """Indices of the columns that a row shows once it is opened."""
        return tuple(i for i in sorted(self.opened) if row[i].text)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure as it is inlined.

    Attributes:
        image: PNG, which has its caption in it.
        width: in inches.
    """

    title: str
    image: bytes
    width: float


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of sentences.

    Attributes:
        title: in front of the list.
        folded: whether the page shows the title alone until it is opened.
    """

    texts: tuple[str, ...]
    title: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Code:
    """Lines to copy, such as a command or the study file."""

    text: str


DIGITS = 4
"""A number from 10 on has no more, unless it has more before the decimal point."""

Block = Words | Items | Code | Table | Picture


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report.

    Attributes:
        key: its anchor in the page.
        blocks: what stands in it, in order; a section whose data is not there has one sentence.
    """

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a report says.

    Attributes:
        name: of the study.
        made: by which version of softprior, and when.
        question: the study file's description.
        answer: at most three parts, mostly a sentence each.
        partial: why this is not a whole study's report, one sentence each; empty if it is.
        sections: everything to be read, in the order of reading.
        trials: the list that is sorted, filtered and searched; its first column is the trial.
        filters: indices of the columns of `trials` that have a menu.
        details: per trial and task, what opening a trial shows; JSON (`trials.details`).
        ids: the short form of every trial id.
    """

    name: str
    made: str
    question: str
    answer: tuple[str, ...]
    partial: tuple[str, ...]
    sections: tuple[Section, ...]
    trials: Table
    filters: tuple[int, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)


def compact(
    caption: str,
    columns: tuple[str, ...],
    rows: Sequence[tuple[Cell, ...]],
    numbers: Collection[str],
    under: Mapping[str, str] | None = None,
    opened: Collection[str] = (),
) -> Table:
    """A table without the columns that are empty in every row.

    Args:
        numbers: names of columns that are set flush right.
        under: names of columns that stand under another one, whose name is the value.
        opened: names of columns that a row shows once it is opened.
    """
    used = [i for i in range(len(columns)) if any(row[i].text for row in rows)]
    names = tuple(columns[i] for i in used)
    places = {name: at for at, name in enumerate(names)}
    return Table(
        caption=caption,
        columns=names,
        rows=tuple(tuple(row[i] for i in used) for row in rows),
        numbers=frozenset(places[name] for name in names if name in numbers),
        under={
            places[low]: places[high]
            for low, high in (under or {}).items()
            if low in places and high in places
        },
        opened=frozenset(places[name] for name in names if name in opened),
    )


def said_once(
    columns: tuple[str, ...], rows: Sequence[tuple[Cell, ...]], names: Collection[str]
) -> tuple[str, list[tuple[Cell, ...]]]:
    """A sentence that says what some columns have in every row, and the rows with these columns empty.

    Args:
        names: of the columns that are words. A table of one row keeps them.
    """
    shared = {
        i: rows[0][i].text
        for i, name in enumerate(columns)
        if name in names and len(rows) > 1 and len({row[i].text for row in rows}) == 1 and rows[0][i].text
    }
    if not shared:
        return "", list(rows)
    told = ", ".join(f'{columns[i]} "{text}"' for i, text in shared.items())
    kept = [tuple(Cell("") if i in shared else cell for i, cell in enumerate(row)) for row in rows]
    return f" In every row: {told}.", kept


def missing(key: str, title: str, why: str) -> Section:
    """A section whose data is not there: one sentence."""
    return Section(key=key, title=title, blocks=(Words(why),))


def number(value: float | None, places: int = 3) -> str:
    """A number in a cell: large ones with few decimals, small ones with two digits that are not 0.

    Nothing where there is none.
    """
    if value is None or value != value:
        return ""
    if 0 < abs(value) < 0.95 * 10 ** (1 - places):
        text = f"{value:.2g}"
    else:
        texts = (f"{value:,.{decimals}f}" for decimals in range(places, -1, -1))
        text = next(filter(_fits, texts))
    return text.replace("-", "\N{MINUS SIGN}")


def _fits(text: str) -> bool:
    """Whether a number has few enough digits, counted as it is printed: 9.9996 with three decimals is 10.000.

    All decimals fit behind one digit, and any number fits without decimals.
    """
    whole, _, decimals = text.lstrip("-").partition(".")
    return len(whole) == 1 or not decimals or len(whole) + len(decimals) <= DIGITS


def sentence(text: object) -> str:
    """A text as a sentence: with a capital letter and a full stop."""
    words = str(text).strip().rstrip(".")
    first = words.split(" ", 1)[0]
    # A file keeps its name: trials.parquet.
    return f"{words[:1].upper() if first.isalpha() else words[:1]}{words[1:]}." if words else ""
