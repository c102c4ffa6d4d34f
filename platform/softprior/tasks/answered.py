"""Tasks with answers: rows are an input and its answer, as one text or as turns of a chat."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from statistics import fmean
from typing import Literal

from pydantic import model_serializer, model_validator

from softprior.assets.chat import chat_asked, chat_of, chat_tokens
from softprior.assets.tokens import NotJointError, Tokenizer
from softprior.inputs.base import Text
from softprior.prompt import Row
from softprior.tasks.base import Example, InputText, Task, labelled_row

_TURNS = 30
"""Tokens of a usual chat template, with a short system text that some have of their own; for estimates."""
_LETTERS = 4
"""Letters per token of English text, for estimates."""


class Answered(Task):
    """A task whose rows are an input and its answer.

    Attributes:
        template: `plain`: the input, a space and the answer as one text, and the end-of-sequence token; or
            `chat`: the tokenizer's own chat template around the input as the user's turn and the answer as
            the assistant's, up to the token that ends it.
        system: text of the system's turn in front of a chat; null leaves it to the template, and some have a
            text of their own.
    """

    template: Literal["plain", "chat"] = "plain"
    system: Text | None = None

    @model_validator(mode="after")
    def _turn_of_a_chat(self) -> Answered:
        if self.system is not None and self.template == "plain":
            raise ValueError(
                "system is a turn of a chat and has no effect with template: plain; write template: chat, or "
                "leave it out"
            )
        return self

    @model_serializer(mode="wrap")
    def _to_json(self, handler: Callable[[object], dict[str, object]]) -> dict[str, object]:
        """Leaves out the defaults, so that ids from before the parameters existed stay as they are."""
        usual = {"template": "plain", "system": None}
        return {key: value for key, value in handler(self).items() if (key, value) not in usual.items()}

    def turns(self) -> int:
        """Approximate number of tokens that a chat template adds to an example."""
        return 0 if self.template == "plain" else _TURNS + len(self.system or "") // _LETTERS

    def mean_length(self, examples: Iterable[Example], tokenizer: Tokenizer) -> float | None:
        """Mean number of tokens of those examples that fit, with the answer; None if none does."""
        lengths = []
        for example in examples:
            with suppress(NotJointError):
                row = self.row(example, tokenizer)
                lengths += [] if row is None else [len(row.tokens)]
        return fmean(lengths) if lengths else None

    def check_tokenizer(self, here: Callable[[], Tokenizer | None]) -> None:
        """Refuses a tokenizer without a usable chat template where one is needed."""
        tokenizer = here() if self.template == "chat" else None
        if tokenizer is not None:
            chat_of(tokenizer, self.system)

    def input_text(self, example: Example, tokenizer: Tokenizer) -> InputText:
        if self.template == "plain":
            return super().input_text(example, tokenizer)
        chat = chat_tokens(tokenizer, example.input, self.trained_answer(example), self.system)
        first = len(chat_of(tokenizer, self.system).lead)
        last = chat.start + len(example.input.rstrip())
        return InputText(chat.text, chat.start, ((0, first), (last, len(chat.text))), special=False)

    def first_token(self, tokenizer: Tokenizer) -> int | None:
        if self.template == "plain":
            return super().first_token(tokenizer)
        return next(iter(chat_of(tokenizer, self.system).opening(tokenizer)), None)

    def asked(self, text: str, tokenizer: Tokenizer) -> list[int]:
        if self.template == "plain":
            return super().asked(text, tokenizer)
        return chat_asked(tokenizer, text, self.system)

    def lead(self, tokenizer: Tokenizer) -> int | None:
        if self.template == "plain":
            return None
        return len(chat_of(tokenizer, self.system).opening(tokenizer))

    def ends(self, tokenizer: Tokenizer) -> frozenset[int]:
        return frozenset() if self.template == "plain" else frozenset({chat_of(tokenizer, self.system).end})

    def row(self, example: Example, tokenizer: Tokenizer) -> Row | None:
        if self.template == "plain":
            return super().row(example, tokenizer)
        chat = chat_tokens(tokenizer, example.input, self.trained_answer(example), self.system)
        return labelled_row(example.id, chat.before, chat.after, chat.end)
