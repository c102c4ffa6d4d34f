"""What tasks on a user's own rows share: reading them, dividing them, and what is wrong with them."""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from statistics import fmean
from typing import Annotated, NamedTuple

from pydantic import Field, model_validator

from softprior.assets.tokens import Tokenizer
from softprior.errors import UserError
from softprior.inputs.base import Text
from softprior.inputs.data_files import Malformed, kind_of
from softprior.inputs.labels import counted
from softprior.prompt import Row as TokenRow
from softprior.results.files import version_of
from softprior.tasks.answered import Answered
from softprior.tasks.base import (
    SPLITS,
    Example,
    Look,
    Quarantined,
    Split,
    Splits,
    require_usable,
    table,
)
from softprior.tasks.own_source import BY_VALUE, Data, Part, fingerprint_of, parts_of
from softprior.tasks.own_splits import Understood, connected, divided
from softprior.tasks.partition import donors, keyed_order, round_robin
from softprior.tasks.sources import REREAD, in_brackets, require
from softprior.tasks.templates import Row, Template, by_float, by_value, cell, columns, filled, flat, spans

_PIECE = re.compile(r"[a-zA-Z]{1,5}|\w|[^\w\s]")
"""What is about a token, for estimates without a tokenizer: vocabularies have most digits and signs alone."""

_RESPELLED = "groups_respelled"
"""The note that counts rows whose group has another spelling than the data have there."""
_REVALUED = "numbers_revalued"
"""The note that counts rows with numbers that once counted as others, or as different from equal ones."""

_UNSEEN = "columns_unseen"
"""The note that counts data sets of the hub whose columns are not known yet."""

_NOT_FIRST = "not_in_first_row: "
"""What the note begins with that counts data sets of the hub whose first row lacks a column."""


_SAMPLE = 100
"""Rows from which it is told whether another parameter would read them, and how long texts are."""

_NAMES = "check the names of its columns, which are in braces where a text is around them"

_REMEDIES = (
    (None, r"('[^']*' is )?not UTF-8 \(", "convert it to UTF-8, such as with iconv -f LATIN1 -t UTF-8"),
    (".csv", "no '", f"{_NAMES}; the first line has to name the columns"),
    (".tsv", "no '", f"{_NAMES}; the first line has to name the columns"),
    (None, "no '", _NAMES),
    (
        ".jsonl",
        "not valid JSON|not an object",
        "write one JSON object per line, or rename it to what it is (.json for a list, .csv, .tsv)",
    ),
    (
        ".json",
        "not valid JSON",
        "write a list of objects or one object per line, or rename it to what it is (.csv, .tsv)",
    ),
    (".json", "not an object", 'write each row as an object, such as {"COLUMN": "TEXT"}'),
    (".csv", r"\d+ fields, but", "put fields with commas in double quotes, and name each column once"),
    (
        ".tsv",
        r"\d+ fields, but",
        "write spaces for tabs and line breaks inside of fields, and name each column once",
    ),
)
"""What to do about rows none of which is usable, by the kind of the file (None for all data) and by the
beginning of the reason of the first."""


class _NoUsableRowError(UserError):
    """A source was read to its end, so that the same data never have a usable row."""


class Answers(NamedTuple):
    """The accepted answers of a row, and its choices if it has any."""

    accepted: tuple[str, ...]
    choices: tuple[str, ...] = ()


class OwnData(Answered):
    """A task on a user's own rows: JSON lines, CSV, Parquet, or a data set of the Hugging Face hub.

    Attributes:
        data: a file, or `hub:OWNER/NAME`, whose rows are divided; or a mapping with one for each split.
        input: what the model reads: a column, or a text with columns in braces.
        group: the column of what splits keep together, such as a topic or an author.
        context: the column of the input that the control swaps between examples.
        id: the column of the examples' ids; without it, an id is made of the input.
        instruction: what the baseline `instruction` puts in front of every input.
        length: longest example in tokens, answer included; a longer one is dropped and counted, never cut.
    """

    data: Data
    input: Template
    group: Text | None = None
    context: Text | None = None
    id: Text | None = None
    instruction: Text = "Answer."  # type: ignore[misc]  # the user's task, so its text is a parameter
    length: Annotated[int, Field(ge=16)] = 384

    @model_validator(mode="after")
    def _context_is_read(self) -> OwnData:
        if self.context is not None and self.context not in columns(self.input):
            raise ValueError(
                f"context = '{self.context}' is not a column of input ({', '.join(columns(self.input))}), "
                "where the control would swap it; add it there, or leave it out"
            )
        return self

    @property
    @abstractmethod
    def answer_columns(self) -> tuple[str, ...]:
        """The columns of answers and choices."""

    @abstractmethod
    def answers(self, row: Row) -> Answers | Malformed:
        """What a row says is right, or why it says nothing."""

    def examined(
        self,
        found: Mapping[Split, Sequence[Understood]],  # noqa: ARG002
        lost: str,  # noqa: ARG002
    ) -> Mapping[str, int]:
        """Notes on the divided rows.

        Args:
            lost: what is said of the malformed rows, in brackets; empty if there are none.
        """
        return {}

    def fault(self, split: Split, rows: Sequence[Understood], lost: str) -> str | None:  # noqa: ARG002
        """Why the rows of a split cannot be used together; None if they can.

        Args:
            lost: as in `examined`.
        """
        return None

    def reinterpreted(self, reason: str, rows: Sequence[Row]) -> str | None:  # noqa: ARG002
        """The parameter with which rows could be used that cannot be as it is, for a sentence.

        Args:
            reason: why the first of them cannot be used.
        """
        return None

    def order(self, rows: Sequence[Understood]) -> list[Understood]:
        """The rows of a split, given in keyed order, in the order in which examples are chosen."""
        groups: dict[str, list[Understood]] = {}
        for row in rows:
            groups.setdefault(row.together, []).append(row)
        return round_robin(groups.values())

    def fingerprint(self) -> str:
        """Identifies the contents of the files, or the hub's commit, and which split each is for.

        Groups of several spellings were several once, and equal numbers of two forms different ones. Of the
        hub's rows none of that is known before they are fetched, so all with a group count as such.
        """
        found, notes = fingerprint_of(self._parts), self._found().notes if self._local else None
        if self.group is not None and (notes is None or _RESPELLED in notes):
            found += REREAD
        return found + (BY_VALUE if notes is not None and _REVALUED in notes else "")

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(part.source for part in self._parts if part.local is None)

    def check_data(self) -> None:
        """Reads and divides local files, once for all that planning needs; of other data the columns."""
        self._check(SPLITS)

    def check_test_data(self) -> None:
        self._check(("test",))

    def _check(self, needs: Sequence[Split]) -> None:
        if self._local:
            require_usable(self._found().faults, needs)
            return
        for part in self._parts:
            if part.local is None:
                part.missing(self._columns)
            else:
                _Reading(self).part(part)

    def look(self) -> Look:
        if not self._local:
            seen: Counter[str] = Counter()
            for part in self._parts:
                if part.local is None:
                    seen[_UNSEEN] += part.columns() is None
                    seen.update(f"{_NOT_FIRST}{column}" for column in part.missing(self._columns))
            return Look(notes=dict(+seen))
        found = self._found()
        rows = [row for row in found.quarantined if not row.rest][:1]
        damaged = [row for row in found.quarantined if row.rest]
        notes = {**found.notes, **self.short({split: len(getattr(found, split)) for split in SPLITS})}
        return Look(len(found.quarantined), (*rows, *damaged), notes)

    def told(self, notes: Mapping[str, int]) -> list[str]:
        """How many rows have a group respelled, or were left out for sharing something with a later split.

        Also whether inputs end in white space, in front of the space that every answer begins with.
        """
        respelled = notes.get(_RESPELLED, 0)
        spaced = (
            f"input ends in white space ({self.input[-12:]!r}), and a space follows between it and the answer"
        )
        renamed = f"{counted(respelled, 'row')} whose {self.group} is another's but for case, spacing or form"
        told = [f"{renamed}, taken for one"] * bool(respelled)
        told += [f"{spaced}; remove it unless both are meant"] * (self.input != self.input.rstrip())
        if unseen := notes.get(_UNSEEN, 0):
            told.append(
                f"columns of {counted(unseen, 'data set')} of the hub are checked only when the first trial "
                "starts, as the hub cannot be reached now"
            )
        for name in notes:
            if name.startswith(_NOT_FIRST):
                told.append(
                    f"the first row of {counted(notes[name], 'data set')} of the hub has no column "
                    f"'{name.removeprefix(_NOT_FIRST)}', and rows without it are left out; check its name"
                )
        return told + [
            f"{counted(notes[name], 'row')} left out, whose {name.removeprefix('shared_')} is also in a "
            "split that is evaluated on"
            for name in ("shared_group", "shared_context", "shared_input")
            if notes.get(name)
        ]

    def splits(self) -> Splits:
        """Reads the source and divides it."""
        return self._found() if self._local else _read(self)

    def positions(self) -> int:
        """For local data from the words, digits and signs of a few rows; otherwise those of a short text."""
        if not self._local:
            return min(150 + self.turns(), round(0.8 * self.length))
        tokens = [len(_PIECE.findall(f"{one.input} {one.answers[0]}")) + 1 for one in self._few()]
        return min(self.length, round(fmean(tokens)) + self.turns())

    def sampled(self, here: Callable[[], Tokenizer | None]) -> float | None:
        """Of local data, the mean over a few rows that fit."""
        tokenizer = here() if self._local else None
        return None if tokenizer is None else self.mean_length(self._few(), tokenizer)

    def _few(self) -> list[Example]:
        """Some examples of local data, which are in keyed order: the first ones are a sample."""
        found = self._found()
        read = found.train if len(found.train) else found.test
        return [Example.of(read[at]) for at in range(min(_SAMPLE, len(read)))]

    def longest(self) -> int:
        return self.length

    @property
    def swaps_contexts(self) -> bool:
        return self.context is not None

    def misfit(self) -> str:
        either = "" if self.context is None else " (with their own context or a swapped one)"
        return f"longer than length = {self.length}{either}"

    def enlarged(self) -> str:
        source = dict(parts_of(self.data)).get("test")
        if source is not None:
            return f"add rows to {source}"
        return "add rows, or name a file for test (data: {train: FILE, test: FILE})"

    def own_text(self, example: Example) -> tuple[tuple[int, int], ...]:
        """The template's own text."""
        return tuple(spans(self.input, example.input))

    def spells(self, token: str) -> bool:
        if not self._local:
            return False
        found = self._found()
        tables = [getattr(found, split) for split in SPLITS]
        return any(token in text for one in tables for texts in one["answers"] for text in texts)

    def document(self, example: Example) -> str:
        """The group: what its rows share makes them dependent on each other."""
        return example.group

    def row(self, example: Example, tokenizer: Tokenizer) -> TokenRow | None:
        """The example as tokens, or None where it is longer than `length`."""
        row = super().row(example, tokenizer)
        return row if row is not None and len(row.tokens) <= self.length else None

    @property
    def _columns(self) -> list[str]:
        """The columns that are read."""
        named = [self.group, self.context, self.id]
        return [*columns(self.input), *self.answer_columns, *(one for one in named if one is not None)]

    @property
    def _parts(self) -> list[Part]:
        return parts_of(self.data)

    @property
    def _local(self) -> bool:
        return all(part.local is not None for part in self._parts)

    def _found(self) -> Splits:
        """The splits of local files, read once for as long as these do not change."""
        files = [require(part.local) for part in self._parts if part.local is not None]
        return _read_once(self, tuple(map(version_of, files)))


@lru_cache(maxsize=8)
def _read_once(task: OwnData, versions: tuple[tuple[int, ...], ...]) -> Splits:  # noqa: ARG001
    return _read(task)


def _read(task: OwnData) -> Splits:
    reading = _Reading(task)
    faults: dict[Split, str] = {}
    parts: dict[Split, list[Understood]] = {}
    for part in parts_of(task.data):
        try:
            parts[part.split] = reading.part(part)
        except _NoUsableRowError as error:
            if part.split != "train" or len(parts_of(task.data)) == 1:
                raise
            parts["train"], faults["train"] = [], str(error)
    if len(parts) > 1:  # rows of several files may be numbered alike
        parts = {split: [_name_by_split(row, split) for row in rows] for split, rows in parts.items()}
    parts = _spelled(parts, reading.notes)
    _require_enough(task, parts, reading.lost())
    found = divided(parts, reading.notes)
    for split in SPLITS:
        reason = task.fault(split, found[split], reading.lost()) if found[split] else _nothing_left(split)
        if reason is not None:
            faults.setdefault(split, reason)
    reading.notes.update(task.examined(found, reading.lost()))
    tables = {split: table(() if split in faults else _examples(task, found[split])) for split in SPLITS}
    return Splits(**tables, quarantined=reading.quarantined, notes=dict(+reading.notes), faults=faults)


def _nothing_left(split: Split) -> str:
    return (
        f"nothing is left for {split}: all of its rows share a group, a context or an input with a split "
        "that is evaluated on; give it rows of its own"
    )


def _spelled(
    parts: Mapping[Split, Sequence[Understood]], notes: Counter[str]
) -> dict[Split, list[Understood]]:
    """The rows with one spelling per group: splits take "Food" and "food" for one, and so do intervals."""
    spellings: dict[str | None, str] = {}
    for row in chain(*parts.values()):
        if row.group is not None:
            key = row.key("group")
            spellings[key] = min(spellings.get(key, row.group), row.group)
    found = {
        split: [row._replace(group=spellings.get(row.key("group"))) for row in rows]
        for split, rows in parts.items()
    }
    both = zip(chain(*parts.values()), chain(*found.values()), strict=True)
    notes[_RESPELLED] += sum(one.group != other.group for one, other in both)
    return found


def _require_enough(task: OwnData, parts: Mapping[Split, Sequence[Understood]], lost: str) -> None:
    last = max(parts, key=SPLITS.index)
    least = len(SPLITS) - len(parts) + 1
    number = len(set(connected(parts[last])))
    if number < least:
        what = task.group or task.context or "input"
        raise UserError(
            f"dividing rows into {least} splits needs at least {least} that share no {what}, but "
            f"{dict(parts_of(task.data))[last]} has {number}{lost}; add rows, or name a file for each split"
        )


def _name_by_split(row: Understood, split: Split) -> Understood:
    return row if row.name is None else row._replace(name=f"{split} {row.name}")


def _examples(task: OwnData, rows: Sequence[Understood]) -> Iterable[Example]:
    named = {_name(row): row for row in rows}
    ordered = task.order([named[name] for name in keyed_order(named, "order")])
    contexts = [row.context or "" for row in ordered]
    givers = None if task.context is None else donors(contexts)
    for i, row in enumerate(ordered):
        control = None
        if givers is not None and task.context is not None:
            control = str(filled(task.input, {**row.row, task.context: contexts[givers[i]]}))
        yield Example(_name(row), row.input, control, row.answers, row.together, row.choices)


def _name(row: Understood) -> str:
    """The row's id, or what stands for it wherever the row is."""
    return row.name or hashlib.sha256("\0".join((row.input, *row.choices)).encode()).hexdigest()[:16]


@dataclass
class _Reading:
    """What all sources of a task have yielded besides rows."""

    task: OwnData
    quarantined: list[Quarantined] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def part(self, part: Part) -> list[Understood]:
        """The usable rows of one source.

        Raises:
            UserError: there are none.
        """
        found: list[Understood] = []
        refused: list[Row] = []
        before = len(self.quarantined)
        inputs: dict[tuple[str, ...], tuple[str, tuple[str, ...]]] = {}
        names: dict[str, str] = {}
        for at, value in part.items():
            row = flat(value)
            own = row if isinstance(row, Malformed) else self._understood(row)
            if not isinstance(own, Malformed):
                own = _unless_known(own, at, inputs, names)
            if isinstance(own, Malformed):
                self.quarantined.append(Quarantined(part.source, at, own.reason, own.rest))
                if not isinstance(row, Malformed) and len(refused) < _SAMPLE:
                    refused.append(row)
            else:
                found.append(own)
        if not found:
            lost = self.quarantined[before:]
            remedy = self._remedy(part, lost, refused)
            raise _NoUsableRowError(f"{part.source} contains no usable row{in_brackets(lost)}; {remedy}")
        return found

    def lost(self) -> str:
        """How many rows are malformed, and what is wrong with the first; empty if there are none."""
        return in_brackets(self.quarantined)

    def _remedy(self, part: Part, lost: Sequence[Quarantined], refused: Sequence[Row]) -> str:
        """What to do where no row of a source is usable, from what is wrong with the first."""
        if not lost:
            return "add rows to it, or name another"
        reason = lost[0].reason
        kind = "" if part.local is None else kind_of(part.local)
        found = (
            remedy
            for of_kind, begins, remedy in _REMEDIES
            if of_kind in (None, kind) and re.match(begins, reason)
        )
        usual = next(found, "correct the rows, or the parameters that say how to read them")
        return self.task.reinterpreted(reason, refused) or usual

    def _understood(self, row: Row) -> Understood | Malformed:
        task = self.task
        text = filled(task.input, row)
        if isinstance(text, Malformed):
            return text
        extra: dict[str, str | None] = {}
        named = (task.context, task.group, task.id)
        for column in named:
            if column is None:
                continue
            value = cell(row, column)
            if isinstance(value, Malformed):
                return value
            if not value.strip():
                return Malformed(f"'{column}' is empty")
            extra[column] = value if column == task.context else value.strip()
        answers = task.answers(row)
        if isinstance(answers, Malformed):
            return answers
        context, group, name = (None if c is None else extra[c] for c in named)
        kept = {column: row[column] for column in columns(task.input)}
        found = Understood(text, kept, *answers, context=context, group=group, name=name)
        return found._replace(values=self._values(row, found))

    def _values(self, row: Row, found: Understood) -> dict[str, str]:
        """What of a row is another text with its numbers in one form each."""
        task = self.task

        def texts(alike: Row) -> dict[str, str]:
            named = (("context", task.context), ("group", task.group))
            found = {kind: cell(alike, column) for kind, column in named if column is not None}
            return {kind: str(text) for kind, text in {"input": filled(task.input, alike), **found}.items()}

        values = texts(by_value(row))
        self.notes[_REVALUED] += values != texts(by_float(row))
        return {kind: text for kind, text in values.items() if text != getattr(found, kind)}


def _unless_known(
    row: Understood,
    at: str,
    inputs: dict[tuple[str, ...], tuple[str, tuple[str, ...]]],
    names: dict[str, str],
) -> Understood | Malformed:
    """The row, unless an earlier one has its input (with the same choices) or its id."""
    asked = (row.input, *row.choices)
    if asked in inputs:
        first, answers = inputs[asked]
        also = "" if answers == row.answers else ", with another answer"
        return Malformed(f"its input is that of {first}{also}")
    if row.name in names:
        return Malformed(f"the id '{row.name}' is that of {names[row.name]}")
    inputs[asked] = at, row.answers
    if row.name is not None:
        names[row.name] = at
    return row
