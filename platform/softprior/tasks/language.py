"""Language modelling: running text, of which every token after the first is predicted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from softprior.assets.tokens import Tokenizer, chunks
from softprior.prompt import Row
from softprior.tasks.base import Example, Split
from softprior.tasks.documents import SHORTEST, DocumentTask
from softprior.tasks.documents_source import Document
from softprior.tasks.partition import keyed_order


class Language(DocumentTask):
    """Documents cut into chunks of `length` tokens; nothing is generated, only the loss is measured.

    Chunks are taken round-robin over documents.

    Attributes:
        mode: `continue`, which study files may say from before there was a task `cloze`; written nowhere.
    """

    headline = "loss"
    instruction = "Continue the text."
    generates = False

    mode: Annotated[Literal["continue"], Field(exclude=True)] = "continue"

    @field_validator("mode", mode="before")
    @classmethod
    def _one_mode(cls, mode: object) -> object:
        if mode != "continue":
            raise ValueError(
                "must be continue, the default, so leave it out; for a missing word, use the task cloze"
            )
        return mode

    def positions(self) -> int:
        """Nearly all chunks are full."""
        return self.length

    def misfit(self) -> str:
        return f"shorter than the {SHORTEST} tokens from which there is something to learn"

    def score(self, prediction: str, answers: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """Nothing is generated, so there is nothing to score."""
        return {}

    def examples(
        self,
        documents: Mapping[Split, Mapping[str, Document]],
        notes: Counter[str],  # noqa: ARG002
    ) -> Mapping[Split, list[Example]]:
        """Each document is one, which `rows` cuts into chunks."""
        return {
            split: [Example(name, document.text, None, (), document.name) for name, document in own.items()]
            for split, own in documents.items()
        }

    def row(self, example: Example, tokenizer: Tokenizer) -> Row | None:
        """One of the document's chunks; None where it is too short for any."""
        return next(iter(self.rows(example, tokenizer)), None)

    def rows(self, example: Example, tokenizer: Tokenizer) -> list[Row]:
        """The document's chunks, in keyed order.

        They are cut here and not in `splits`, because a chunk is measured in tokens and only here is there
        a tokenizer: passages cut by characters beforehand would end in different places for every model,
        and mostly be too short or too long.
        """
        rows = {}
        for i, chunk in enumerate(chunks(tokenizer, example.input, self.length)):
            if len(chunk) >= SHORTEST:
                labels = [False] + [True] * (len(chunk) - 1)
                rows[f"{example.id}-{i}"] = Row(f"{example.id}-{i}", chunk, labels=labels, scored=labels)
        # Not from the beginning: few examples would then all be openings, which are a style of their own.
        return [rows[name] for name in keyed_order(rows, "order")]
