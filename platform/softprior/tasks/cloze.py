"""Cloze: a sentence with one word blanked, which is the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from softprior.assets.tokens import Tokenizer
from softprior.prompt import Row
from softprior.tasks.answered import Answered
from softprior.tasks.base import Example, NewTokens, Split
from softprior.tasks.blanks import blanked_examples
from softprior.tasks.documents import DocumentTask
from softprior.tasks.documents_source import Document
from softprior.tasks.squad_metrics import METRICS, exact_match, overlap

_WORD_TOKENS = 12
"""Tokens generated for a word. 99.9% of the blanked words of Wikipedia take, with the end-of-sequence token,
at most 6 tokens of SmolLM2's tokenizer and 11 of `tiny`'s."""


class Cloze(Answered, DocumentTask):
    """Sentences of documents with a word to fill in, generated and scored like SQuAD's answers.

    The input is a sentence with one word blanked, then "Answer:" on the next line. In the control the word
    follows another sentence of the same split. Sentences are taken round-robin over documents. If an example
    or its control is longer than `length`, it is dropped and counted, never cut.
    """

    headline = "exact_match"
    instruction = "Write the missing word."

    max_new_tokens: NewTokens = _WORD_TOKENS

    @property
    def metrics(self) -> tuple[str, ...]:
        return METRICS

    def positions(self) -> int:
        """A sentence of Wikipedia with its answer has 35 tokens on average."""
        return min(35 + self.turns(), round(0.8 * self.length))

    def misfit(self) -> str:
        return f"longer than length = {self.length} (with their own sentence or a swapped one)"

    def score(self, prediction: str, answers: Sequence[str]) -> dict[str, float]:
        """The metrics of SQuAD."""
        return {"exact_match": exact_match(prediction, answers), **overlap(prediction, answers)._asdict()}

    def examples(
        self, documents: Mapping[Split, Mapping[str, Document]], notes: Counter[str]
    ) -> Mapping[Split, list[Example]]:
        """One per sentence with a word to blank."""
        return blanked_examples(documents, notes)

    def own_text(self, example: Example) -> tuple[tuple[int, int], ...]:
        """The last line."""
        return ((example.input.rindex("\n"), len(example.input)),)

    def document(self, example: Example) -> str:
        """The document, whose sentences these are."""
        return example.group

    def row(self, example: Example, tokenizer: Tokenizer) -> Row | None:
        """The sentence and its word; None where they do not fit."""
        row = super().row(example, tokenizer)
        return row if row is not None and len(row.tokens) <= self.length else None
