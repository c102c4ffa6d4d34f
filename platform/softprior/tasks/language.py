"""Running text: language modelling, where every token after the first is predicted, or cloze."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from softprior.assets.data import data_fingerprint
from softprior.assets.tokens import chunks
from softprior.errors import UserError
from softprior.inputs.specs import SaysWhere
from softprior.prompt import Row
from softprior.tasks.base import SPLITS, Example, Quarantined, Splits, Task, table
from softprior.tasks.cloze import cloze_examples
from softprior.tasks.language_source import JSON_LINES, Document, c4, local, local_fingerprint, wikipedia
from softprior.tasks.partition import keyed_order, keys_for, split_in_order, split_of
from softprior.tasks.sources import check_source, in_brackets, is_path, local_path
from softprior.tasks.squad_metrics import METRICS, exact_match, overlap

_SHORTEST = 16
"""Minimum number of tokens of a document's last chunk; a shorter one has too little context to learn from."""
_LARGE = 1000
"""Number of documents from which hashes alone divide a collection well enough."""
_WORD_TOKENS = 12
"""Tokens generated for a word. 99.9% of the blanked words of Wikipedia take, with the end-of-sequence token,
at most 6 tokens of SmolLM2's tokenizer and 11 of `tiny`'s."""


class Language(Task):
    """Documents cut into chunks of `length` tokens, loss only; or into sentences with a word to fill in.

    Splits are by document, and a text that occurs twice counts once. Chunks, and likewise sentences, are
    taken round-robin over documents. From C4 and JSON lines, which can be very long, only as many
    documents are read as the numbers of examples require.

    In cloze the input is a sentence with one word blanked, then "Answer:" on the next line, and the
    answer is that word, generated and scored like SQuAD's. In the control the word follows another
    sentence of the same split.

    Attributes:
        data: `wikipedia-106`, `c4` (streamed; needs the Hugging Face hub), a .txt file with documents
            between blank lines, a folder of .txt files with one document each, or JSON lines with the
            document under `text` (.jsonl, .json, both also with .gz), which is C4's layout.
        length: longest chunk in tokens, the tokenizer's beginning-of-sequence token included; in cloze
            longest example, answer included: a longer one, or one whose control is longer, is dropped
            and counted, never cut.
        mode: `continue` learns to predict every token after the first, `cloze` the missing word.
        max_new_tokens: in cloze 12 by default; without effect in `continue`.
    """

    data: Annotated[str, SaysWhere()] = "wikipedia-106"
    length: Annotated[int, Field(ge=_SHORTEST)] = 128
    mode: Literal["continue", "cloze"] = "continue"

    # Class variables of `Task`, which mypy takes to be writeable; here they depend on a field.
    @property
    def headline(self) -> str:  # type: ignore[override]
        return "exact_match" if self.mode == "cloze" else "loss"

    @property
    def instruction(self) -> str:  # type: ignore[override]
        return "Write the missing word." if self.mode == "cloze" else "Continue the text."

    @property
    def generates(self) -> bool:  # type: ignore[override]
        return self.mode == "cloze"

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("mode") == "cloze":
            return {"max_new_tokens": _WORD_TOKENS, **value}
        return value

    @model_serializer(mode="wrap")
    def _to_json(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out the default mode, so that ids from before there was another stay the same."""
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if (key, value) != ("mode", "continue")}

    @field_validator("data")
    @classmethod
    def _source(cls, data: str) -> str:
        return check_source(data, ["wikipedia-106", "c4"], hub=False)

    def fingerprint(self) -> str:
        """Identifies the catalogue's entry or the local files' contents."""
        if is_path(self.data):
            return local_fingerprint(local_path(self.data), self._number())
        return data_fingerprint(self.data)

    def check_data(self) -> None:
        """Reads a local path as far as its first documents, enough for every split to have one."""
        if not is_path(self.data):
            return
        quarantined: list[Quarantined] = []
        keys = set()
        for document in local(local_path(self.data), self._number(), quarantined):
            keys.add(_key(document.text))
            if len(keys) == len(SPLITS):
                return
        raise self._too_few(len(keys), quarantined)

    def positions(self) -> int:
        """Nearly all chunks are full; a sentence of Wikipedia with its answer has 35 tokens on average."""
        return min(35, round(0.8 * self.length)) if self.mode == "cloze" else self.length

    def longest(self) -> int:
        return self.length

    @property
    def metrics(self) -> tuple[str, ...]:
        return METRICS if self.generates else ()

    def score(self, prediction: str, answers: Sequence[str]) -> dict[str, float]:
        """The metrics of SQuAD in cloze; otherwise nothing is generated, so there is nothing to score."""
        if self.mode == "continue":
            return {}
        return {"exact_match": exact_match(prediction, answers), **overlap(prediction, answers)._asdict()}

    def splits(self) -> Splits:
        """Reads the documents; each is one example, which `rows` splits, or in cloze one per sentence."""
        quarantined: list[Quarantined] = []
        found = self._documents(quarantined)
        texts = {_key(document.text): document for document in found}
        if len(texts) < len(SPLITS):
            raise self._too_few(len(texts), quarantined)
        # A document of a large collection goes by its own hash, so that reading more of them leaves the
        # tested ones where they are; in a small one that could leave a split empty.
        large = len(texts) >= _LARGE
        places = {key: split_of(key) for key in texts} if large else split_in_order(texts)
        ordered = keyed_order(texts, "order")
        documents = {
            split: {key[:16]: texts[key] for key in ordered if places[key] == split} for split in SPLITS
        }
        notes = Counter(repeated_documents=len(found) - len(texts))
        examples = (
            cloze_examples(documents, notes)
            if self.mode == "cloze"
            else {split: [_example(*item) for item in documents[split].items()] for split in SPLITS}
        )
        tables = {split: table(examples[split]) for split in SPLITS}
        return Splits(**tables, quarantined=quarantined, notes=dict(+notes))

    def template(self, example: Example) -> tuple[tuple[int, int], ...]:
        """In cloze the last line."""
        return ((example.input.rindex("\n"), len(example.input)),) if self.mode == "cloze" else ()

    def document(self, example: Example) -> str:
        """The document, whose chunks or sentences these are."""
        return example.group if self.mode == "cloze" else example.id

    def row(self, example: Example, tokenizer: Any) -> Row | None:
        """One of the document's chunks, or the sentence; None where it does not fit."""
        if self.mode == "cloze":
            row = super().row(example, tokenizer)
            return row if row is not None and len(row.tokens) <= self.length else None
        return next(iter(self.rows(example, tokenizer)), None)

    def rows(self, example: Example, tokenizer: Any) -> list[Row]:
        """The document's chunks, in keyed order; in cloze the one row of the sentence.

        They are cut here and not in `splits`, because a chunk is measured in tokens and only here is there
        a tokenizer: passages cut by characters beforehand would end in different places for every model,
        and mostly be too short or too long.
        """
        if self.mode == "cloze":
            return super().rows(example, tokenizer)
        rows = {}
        for i, chunk in enumerate(chunks(tokenizer, example.input, self.length)):
            if len(chunk) >= _SHORTEST:
                labels = [False] + [True] * (len(chunk) - 1)
                rows[f"{example.id}-{i}"] = Row(f"{example.id}-{i}", chunk, labels=labels, scored=labels)
        # Not from the beginning: few examples would then all be openings, which are a style of their own.
        return [rows[name] for name in keyed_order(rows, "order")]

    def _documents(self, quarantined: list[Quarantined]) -> list[Document]:
        if self.data == "wikipedia-106":
            return wikipedia()
        if self.data == "c4":
            return c4(self._number(), quarantined)
        return list(local(local_path(self.data), self._number(), quarantined))

    def _number(self) -> int:
        """Number of documents to read from data that can be very long."""
        # Every document makes a chunk unless it is very short; the margin is for those, and for chance.
        return 100 + 5 * keys_for({split: self.examples_of(split) for split in SPLITS}) // 4

    def _too_few(self, number: int, quarantined: list[Quarantined]) -> UserError:
        more = " (one object per line, the text under 'text')" if self.data.endswith(JSON_LINES) else ""
        return UserError(
            f"splitting by document needs at least 3 different documents, but {self.data} has "
            f"{number}{in_brackets(quarantined)}; add documents{more} or choose other data"
        )


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _example(name: str, document: Document) -> Example:
    return Example(id=name, input=document.text, control=None, answers=(), group=document.name)
