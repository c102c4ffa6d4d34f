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
    }
)
"""Further columns of the tables of tasks with choices."""


class ChoiceColumns(TypedDict):
    """What a table has of an example with choices.

    Attributes:
        choices: their texts.
        choice_tokens: the tokens of each, without the end-of-sequence token.
        alone_tokens: what stands in place of the input.
    """

    choices: list[str]
    choice_tokens: list[list[int]]
    alone_tokens: list[int]


class Choices(NamedTuple):
    """The choices of one example as rows, which have no end-of-sequence token.

    Attributes:
        texts: in order.
        right: index of the right one.
        given: each behind the input.
        alone: each behind what stands in place of the input.
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
        texts, tokens = tuple(record["choices"]), record["choice_tokens"]
        given, alone = (
            [_row(record["id"], start, own) for own in tokens] for start in (before, record["alone_tokens"])
        )
        return cls(texts, texts.index(record["answers"][0]), given, alone)


def choice_columns(task: Task, example: Example, tokenizer: Tokenizer) -> ChoiceColumns | None:
    """The columns of an example with choices; None if one of them does not fit.

    Every choice is put together with the input as the right one is.

    Raises:
        NotJointError: a choice has other tokens without the input; as `AlikeError`, two have the same.
    """
    found: list[Row] = []
    alone: list[Row] = []
    for choice in example.choices:
        for text, own in ((example.input, found), (task.without_input(example), alone)):
            row = task.row(example._replace(input=text, answers=(choice,)), tokenizer)
            if row is None:
                return None
            own.append(row)
    tokens = [_scored(row) for row in found]
    if len({tuple(own) for own in tokens}) < len(tokens):
        raise AlikeError(
            f"two of the choices {', '.join(map(repr, example.choices))[:80]} have the same tokens"
        )
    if tokens != [_scored(row) for row in alone]:
        raise NotJointError("the tokenizer encodes a choice differently without the input")
    before = alone[0].tokens[: alone[0].labels.index(True)]
    return {"choices": list(example.choices), "choice_tokens": tokens, "alone_tokens": before}


def _row(name: str, before: list[int], choice: list[int]) -> Row:
    labels = [False] * len(before) + [True] * len(choice)
    return Row(name, [*before, *choice], labels, labels)


def _scored(row: Row) -> list[int]:
    return [token for token, scored in zip(row.tokens, row.scored, strict=True) if scored]
