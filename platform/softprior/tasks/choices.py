"""Classification and multiple choice on your own rows, by the likelihood of each choice."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from softprior.errors import SHOWN
from softprior.inputs.base import Text
from softprior.inputs.data_files import Malformed
from softprior.inputs.labels import counted
from softprior.tasks.base import SPLITS, Example, Split
from softprior.tasks.choosing import (
    WAYS,
    By,
    Chosen,
    Options,
    brier,
    calibration_error,
    commonest,
    macro_f1,
)
from softprior.tasks.own_data import Answers, OwnData
from softprior.tasks.own_splits import Understood
from softprior.tasks.partition import round_robin
from softprior.tasks.templates import Row, bare, cell, cells

AnswerIs = Literal["text", "index", "number", "letter"]

WAYS_TO_SAY: tuple[AnswerIs, ...] = get_args(AnswerIs)
"""How a column may say which choice is right."""

_ANSWER = "the answer '"
"""How the reason begins why a row cannot be used whose answer names none of its choices."""

_TYPICAL = 4
"""Choices of a row that is not read yet, for estimates."""


class Choices(OwnData):
    """Your own rows, with several choices of which one is right; the likeliest choice is the answer.

    The right choice is trained on, with the end-of-sequence token; how likely a choice is does not count it.

    Attributes:
        labels: the choices of all rows.
        choices: without labels, the columns that have a row's choices, or the one that has a list of them.
        answer: the column that says which choice is right.
        answer_is: what that column has: the choice's text, its index from 0, its number from 1, its letter
            (or, as in ARC, its number in some rows).
        by: how choices are compared for the headline, the answers and the probabilities: by the likelihood of
            the whole choice, its mean per token, or what the input adds to it.
        classes: `balanced` leaves out rows of commoner labels, so that each split has equally many of each.
    """

    labels: tuple[Text, ...] = ()
    choices: tuple[Text, ...] = ()
    answer: Text
    answer_is: AnswerIs = "text"
    by: By = "sum"
    classes: Literal["as_is", "balanced"] = "as_is"
    instruction: Text = "Choose the right answer."  # type: ignore[misc]  # as in `OwnData`
    max_new_tokens: Annotated[int, Field(ge=1, le=4096, exclude=True)] = 32

    @field_validator("labels")
    @classmethod
    def _several(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        labels = tuple(label.strip() for label in labels)
        if len(labels) == 1:
            raise ValueError("has one label, and a choice is between two or more; add the others")
        if len(set(labels)) < len(labels):
            raise ValueError("has a label twice; name each once")
        return labels

    @model_validator(mode="after")
    def _one_way(self) -> Choices:
        if "max_new_tokens" in self.model_fields_set:
            raise ValueError(
                "max_new_tokens has no effect, as choices are compared and nothing is written; leave it out"
            )
        if bool(self.labels) == bool(self.choices):
            raise ValueError(
                "labels (the same for all rows) or choices (columns of each row): give one of them"
            )
        if self.classes == "balanced" and not self.labels:
            raise ValueError(
                "classes = 'balanced' needs labels, as rows with choices of their own have no classes"
            )
        return self

    # By which likelihood is a parameter, so the headline is known of a task and not of its class.

    @property
    def headline(self) -> str:  # type: ignore[override]
        return f"accuracy_{self.by}"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Accuracies by each likelihood, `brier` and `ece`; with labels also `commonest` and `macro_f1`."""
        of_labels = ("commonest", "macro_f1") if self.labels else ()
        return (*(f"accuracy_{by}" for by in WAYS), "brier", "ece", *of_labels)

    @property
    def optional(self) -> tuple[str, ...]:
        """Without `accuracy_pmi` is a split of which one example has choices that cannot be alone."""
        return () if self.needs_alone else ("accuracy_pmi",)

    def options(self) -> int:
        return len(self.labels) or (len(self.choices) if len(self.choices) > 1 else _TYPICAL)

    def score(self, prediction: str, answers: Sequence[str]) -> dict[str, float]:
        """The headline: whether it is the right choice."""
        return {self.headline: float(prediction.strip() in answers)}

    def choose(self, options: Sequence[Options]) -> Chosen:
        """Metrics of each example, and those that only all of them together have."""
        predicted = [one.chosen(self.by) for one in options]
        right = [one.right for one in options]
        sure = [float(one.probabilities(self.by).max()) for one in options]
        # A mean over those examples that can be compared is none over all.
        ways = [by for by in WAYS if all(by in one.ways for one in options)]
        metrics = [
            {
                **{f"accuracy_{by}": float(one.chosen(by) == one.right) for by in ways},
                "brier": brier(one, self.by),
            }
            for one in options
        ]
        hits = [one == other for one, other in zip(predicted, right, strict=True)]
        together = {"ece": calibration_error(sure, hits)}
        if self.labels:  # the place of a choice among those of its row is nothing that a model sees
            together |= {"commonest": commonest(right), "macro_f1": macro_f1(predicted, right)}
        answers = [one.texts[chosen] for one, chosen in zip(options, predicted, strict=True)]
        return Chosen(answers, metrics, together)

    @property
    def needs_alone(self) -> bool:
        return self.by == "pmi"

    def without_input(self, example: Example) -> str:  # noqa: ARG002
        """The template's own text; `Answer:` if it has none."""
        return bare(self.input).strip("\n ") or "Answer:"

    @property
    def answer_columns(self) -> tuple[str, ...]:
        return (self.answer, *self.choices)

    def answers(self, row: Row) -> Answers | Malformed:
        """The right choice, and all of them."""
        found = self._choices(row)
        if isinstance(found, Malformed):
            return found
        texts = tuple(text.strip() for text in found)
        if not all(texts):
            return Malformed("a choice is empty")
        if len(texts) < 2:
            return Malformed(f"it has one choice, '{texts[0][:40]}'")
        if len(set(texts)) < len(texts):
            return Malformed(f"the choice '{Counter(texts).most_common(1)[0][0][:40]}' appears twice")
        said = cell(row, self.answer)
        if isinstance(said, Malformed):
            return said
        value = row[self.answer]
        if self.answer_is in ("index", "number") and isinstance(value, float) and value.is_integer():
            said = str(int(value))  # 1.00 and 1e0 are 1
        index = self._index(said.strip(), texts)
        if index is None:
            listed = ", ".join(text[:40] for text in texts[:SHOWN]) + ", ..." * (len(texts) > SHOWN)
            first = {"index": " from 0", "number": " from 1"}.get(self.answer_is, "")
            return Malformed(
                f"{_ANSWER}{said.strip()[:40]}' is none of the {len(texts)} choices by "
                f"{self.answer_is}{first} ({listed})"
            )
        return Answers((texts[index],), texts)

    def reinterpreted(self, reason: str, rows: Sequence[Row]) -> str | None:
        """The `answer_is` with which most of the rows name a choice, if the first names none as it is."""
        if not reason.startswith(_ANSWER):
            return None
        understood = {
            way: sum(isinstance(one.answers(row), Answers) for row in rows)
            for way in WAYS_TO_SAY
            for one in [self.model_copy(update={"answer_is": way})]
        }
        most = max(understood.values())
        ways = [way for way, count in understood.items() if 0 < count == most]
        if self.answer_is in ways:
            return None
        # What is a number is also read where letters are expected.
        named = [way for way in ways if way != "letter" or "number" not in ways]
        return f"set answer_is: {' or '.join(named)}" if named else None

    def fault(self, split: Split, rows: Sequence[Understood], lost: str) -> str | None:
        """A single label to train on, or one to balance that is not there."""
        right = {row.answers[0] for row in rows}
        if self.labels and split == "train" and len(right) == 1:
            remedy = "add rows with another one" + ", or correct these" * bool(lost)
            return (
                f"all {counted(len(rows), 'row')} to train on have the answer '{next(iter(right))}', so "
                f"there is nothing to choose{lost}; {remedy}"
            )
        missing = [label for label in self.labels if label not in right]
        if self.classes == "balanced" and missing:
            return (
                f"balanced classes need a row of every label in each split, and {split} has none of "
                f"'{missing[0]}'; add rows, or set classes: as_is"
            )
        return None

    def examined(self, found: Mapping[Split, Sequence[Understood]], lost: str) -> Mapping[str, int]:  # noqa: ARG002
        """Splits to evaluate on that have one label alone, and rows that balancing leaves out."""
        notes: dict[str, int] = {}
        for split, rows in found.items() if self.labels else ():
            counts = Counter(row.answers[0] for row in rows)
            notes[f"{split}_one_label"] = int(len(counts) == 1)
            if split == "train":
                notes |= {
                    f"label_{i}_unused": int(label not in counts) for i, label in enumerate(self.labels)
                }
            if self.classes == "balanced":
                least = min(counts[label] for label in self.labels)
                notes[f"{split}_unbalanced"] = len(rows) - least * len(self.labels)
        return notes

    def told(self, notes: Mapping[str, int]) -> list[str]:
        """Also what `examined` has found, and how many examples have a choice that cannot lose."""
        lines = super().told(notes)
        unused = [label for i, label in enumerate(self.labels) if notes.get(f"label_{i}_unused")]
        if unused:
            lines.append(
                f"no row to train on has the label {' or '.join(map(repr, unused))}; check its spelling"
            )
        for split in SPLITS:
            if notes.get(f"{split}_one_label"):
                lines.append(f"all rows for {split} have one label, so that accuracy says little; add rows")
            if left := notes.get(f"{split}_unbalanced", 0):
                lines.append(f"{counted(left, 'row')} for {split} left out to balance the labels")
        if lone := notes.get("choices_not_alone", 0):
            lines.append(
                f"{counted(lone, 'example')} whose choices cannot follow the text in place of the input; a "
                "split with one of them has no accuracy_pmi"
            )
        begun = notes.get("choices_begin_another", 0)
        if begun and self.by == "sum":
            lines.append(
                f"{counted(begun, 'example')} with a choice whose tokens begin another's, which by = sum "
                "never prefers; set by: mean or pmi"
            )
        return lines

    def order(self, rows: Sequence[Understood]) -> list[Understood]:
        """With balanced classes, a row of each label in turn, as long as all labels have one."""
        ordered = super().order(rows)
        if self.classes == "as_is":
            return ordered
        by_label = [[row for row in ordered if row.answers[0] == label] for label in self.labels]
        least = min(map(len, by_label))
        return round_robin(own[:least] for own in by_label)

    def _choices(self, row: Row) -> tuple[str, ...] | Malformed:
        if self.labels:
            return self.labels
        if len(self.choices) == 1:
            return cells(row, self.choices[0])
        found = [cell(row, column) for column in self.choices]
        malformed = next((one for one in found if isinstance(one, Malformed)), None)
        return malformed or tuple(str(one) for one in found)

    def _index(self, said: str, texts: tuple[str, ...]) -> int | None:
        """The index of the right choice; None if the answer names none."""
        if self.answer_is == "text":
            return texts.index(said) if said in texts else None
        if self.answer_is == "letter" and not said.isdecimal():
            letter = said.upper()
            found = string.ascii_uppercase.find(letter) if len(letter) == 1 else -1
        else:
            digits = said.removesuffix(".0")  # of a column of decimals
            found = (
                int(digits) - (self.answer_is != "index") if digits.isdecimal() and len(digits) < 9 else -1
            )
        return found if 0 <= found < len(texts) else None
