"""Choices as rows of tokens: each behind the input, and behind what stands in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

from datasets import Features, List, Value

from softprior.assets.tokens import AlikeError, NotJointError, Tokenizer
from softprior.prompt import Row
from softprior.tasks.base import Example, Task

FEATURES = Features(
    {
        "choices": List(Value("string")),
        "choice_tokens": List(List(Value("int32"))),
        "alone_tokens": List(Value("int32")),
        "alone_choices": List(List(Value("int32"))),
    }
)
"""Further columns of the tables of tasks with choices."""


class ChoiceColumns(TypedDict):
    """What a table has of an example with choices.

    Attributes:
        choices: their texts.
        choice_tokens: the tokens of each, without the end-of-sequence token.
        alone_tokens: what stands in place of the input.
        alone_choices: the tokens of each choice behind that, usually the same; empty where they cannot be put
            together.
    """

    choices: list[str]
    choice_tokens: list[list[int]]
    alone_tokens: list[int]
    alone_choices: list[list[int]]


NO_CHOICES: ChoiceColumns = {"choices": [], "choice_tokens": [], "alone_tokens": [], "alone_choices": []}
"""Where an answer is written."""


class Choices(NamedTuple):
    """The choices of one example as rows, which have no end-of-sequence token.

    Attributes:
        texts: in order.
        right: index of the right one.
        given: each behind the input.
        alone: each behind what stands in place of the input; empty where they have no tokens there.
    """

    texts: tuple[str, ...]
    right: int
    given: list[Row]
    alone: list[Row]

    @classmethod
    def of(cls, record: Mapping[str, Any], before: list[int]) -> Choices | None:
        """Those in a row of a table; None where an answer is written.

        Args:
            before: the tokens of the input.
        """
        if not record.get("choices"):
            return None
        texts = tuple(record["choices"])
        given = [_row(record["id"], before, own) for own in record["choice_tokens"]]
        alone = [_row(record["id"], record["alone_tokens"], own) for own in record["alone_choices"]]
        return cls(texts, texts.index(record["answers"][0]), given, alone)


def choice_columns(task: Task, example: Example, tokenizer: Tokenizer) -> ChoiceColumns | None:
    """The columns of an example with choices; None if one of them does not fit.

    Every choice is put together with the input, and with what stands in its place, as the right one is.

    Raises:
        NotJointError: a choice cannot be put together with the input; as `AlikeError`, two have the same
            tokens.
    """
    found = _rows(task, example, tokenizer)
    if found is None:
        return None
    tokens = [_scored(row) for row in found]
    if len({tuple(own) for own in tokens}) < len(tokens):
        raise AlikeError(
            f"two of the choices {', '.join(map(repr, example.choices))[:80]} have the same tokens; "
            "remove the row, or write one of them differently"
        )
    try:
        alone = _rows(task, example._replace(input=task.without_input(example)), tokenizer)
    except NotJointError:
        if task.needs_alone:
            raise
        alone = None
    if alone is None and task.needs_alone:
        return None
    return {
        "choices": list(example.choices),
        "choice_tokens": tokens,
        "alone_tokens": alone[0].tokens[: alone[0].labels.index(True)] if alone else [],
        "alone_choices": [_scored(row) for row in alone or ()],
    }


def _rows(task: Task, example: Example, tokenizer: Tokenizer) -> list[Row] | None:
    """A row for each choice; None if one of them does not fit."""
    rows = [task.row(example._replace(answers=(choice,)), tokenizer) for choice in example.choices]
    fitting = [row for row in rows if row is not None]
    return fitting if len(fitting) == len(rows) else None


def _row(name: str, before: list[int], choice: list[int]) -> Row:
    labels = [False] * len(before) + [True] * len(choice)
    return Row(name, [*before, *choice], labels, labels)


def _scored(row: Row) -> list[int]:
    return [token for token, scored in zip(row.tokens, row.scored, strict=True) if scored]
