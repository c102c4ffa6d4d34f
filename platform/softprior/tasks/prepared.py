"""A task's tokenised examples, as they are read from the cache."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

import pyarrow.compute as pc
from datasets import Dataset

from softprior.prompt import Row
from softprior.tasks.base import SPLITS, Look, Quarantined, Split
from softprior.tasks.choice_rows import Choices

QUARANTINE = 100
"""Most malformed rows that a record names; all of them are counted."""


class Text(NamedTuple):
    """What a model reads of one example, and what is known about each token.

    Attributes:
        id: stable name.
        document: what its tokens share with other texts, so that they are not independent of them.
        group: what splits keep together: an article, a module, a document.
        tokens: token ids.
        parts: index into `tasks.parts.PARTS` of every token.
    """

    id: str
    document: str
    group: str
    tokens: list[int]
    parts: list[int]


class PreparedSplit:
    """The tokenised examples of one split, read from disk as they are asked for.

    Attributes:
        lengths: number of tokens of every example, answer included.
    """

    def __init__(self, rows: Dataset) -> None:
        self._rows = rows
        self.lengths: list[int] = list(rows["length"])

    @cached_property
    def labels(self) -> int:
        """Number of answer tokens of all examples together."""
        return sum(int(pc.sum(pc.list_flatten(masks)).as_py()) for masks in self._rows.data["labels"].chunks)

    @cached_property
    def first_tokens(self) -> frozenset[int]:
        """What inputs begin with, those of controls and what stands in their place included."""
        found: set[int] = set()
        for column in {"tokens", "control_tokens", "alone_tokens"} & set(self._rows.column_names):
            for rows in self._rows.data[column].chunks:
                some = rows.filter(pc.greater(pc.list_value_length(rows), 0))  # neither null nor empty
                found.update(pc.unique(pc.list_element(some, 0)).to_pylist())
        return frozenset(found)

    @cached_property
    def answers_at_once(self) -> bool:
        """Whether an input is one token, so that the second is a label."""
        masks = self._rows.data["labels"].chunks
        return any(pc.any(pc.list_element(chunk, 1)).as_py() for chunk in masks)

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, index: int) -> Row:
        """Input and answer."""
        return Row(*self._values(index, "id", "tokens", "labels", "scored"))

    def control_row(self, index: int) -> Row | None:
        """The same answer after the input with its context swapped; None where the task has no control."""
        found = self._values(index, "id", "control_tokens", "control_labels", "control_scored")
        return None if found[1] is None else Row(*found)

    def input_row(self, index: int) -> Row:
        """The tokens before the first label, from which an answer is generated."""
        row = self.row(index)
        end = row.labels.index(True)
        return replace(row, tokens=row.tokens[:end], labels=row.labels[:end], scored=row.scored[:end])

    def text(self, index: int) -> Text:
        """Input and answer without the end-of-sequence token, and what their tokens are."""
        found = self._rows[index]
        end = len(found["tokens"]) - (not found["scored"][-1])
        return Text(
            found["id"], found["document"], found["group"], found["tokens"][:end], found["parts"][:end]
        )

    def column(self, name: Literal["id", "document", "group"]) -> list[str]:
        """The id, the document or the group of every example."""
        return list(self._rows[name])

    @cached_property
    def answered(self) -> list[str]:
        """The first accepted answer of every example; empty for running text."""
        return [found[0] for found in self._rows["answers"] if found]

    def answers(self, index: int) -> tuple[str, ...]:
        """The accepted answers."""
        (found,) = self._values(index, "answers")
        return tuple(found)

    def choices(self, index: int) -> Choices | None:
        """The choices as rows; None where an answer is written."""
        return Choices.of(self._rows[index], self.input_row(index).tokens)

    def _values(self, index: int, *columns: str) -> list[Any]:
        """Reads one example straight from Arrow, which takes a tenth of the time of a row of `datasets`."""
        return [self._rows.data[column][index].as_py() for column in columns]


@dataclass(frozen=True)
class Prepared:
    """A task's three splits for one tokenizer.

    Attributes:
        dropped: examples passed over because they, or their control, do not fit.
        quarantined: number of malformed rows of the source; `quarantine` names each.
        notes: further counts of the task, and `<split>_short`, the number of examples that a split has
            less than the task asks for.
        firsts: see `Look`.
        faults: why a split, which then is empty, cannot be used.
        largest: the largest token id of any row.
        path: the folder in the cache.
    """

    train: PreparedSplit
    validation: PreparedSplit
    test: PreparedSplit
    dropped: int
    quarantined: int
    notes: dict[str, int]
    quarantine: tuple[Quarantined, ...]
    firsts: dict[str, str]
    faults: dict[Split, str]
    largest: int
    path: Path

    @property
    def look(self) -> Look:
        """What is told of them."""
        lengths = {split: fmean(rows.lengths) for split in SPLITS if len(rows := getattr(self, split))}
        return Look(self.quarantined, self.quarantine, self.notes, self.dropped, self.firsts, lengths)

    def facts(self) -> dict[str, object]:
        """What a record says of them: `dropped`, `firsts`, `quarantined`, `quarantine` and the notes."""
        # The place where a file is damaged follows its rows, and says most about what is lost.
        first = sorted(self.quarantine, key=lambda row: not row.rest)[:QUARANTINE]
        named = [asdict(row) for row in first]
        return {
            "dropped": self.dropped,
            "firsts": self.firsts,
            "quarantined": self.quarantined,
            "quarantine": named,
            **self.notes,
        }
