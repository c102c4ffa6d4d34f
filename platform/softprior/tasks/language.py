"""Language modelling on running text: every token after the first is to be predicted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from softprior.assets.data import data_fingerprint
from softprior.errors import UserError
from softprior.prompt import Row
from softprior.tasks.base import SPLITS, Example, Quarantined, Splits, Task, table
from softprior.tasks.language_source import Document, c4, local, local_files, wikipedia
from softprior.tasks.partition import keyed_order, keys_for, split_in_order, split_of
from softprior.tasks.sources import check_source, contents_fingerprint, is_path

_SHORTEST = 16
"""Tokens. A document's last chunk is left out if it is shorter: too little context to learn from."""
_LARGE = 1000
"""Documents. From so many on, hashes alone divide a collection well enough."""


class Language(Task):
    """Documents cut into chunks of `length` tokens; loss only, nothing is generated.

    Splits go by document, and a text that occurs twice counts once. Chunks are taken round-robin over
    documents. Of C4 and of JSON lines, which have no end in sight, as many documents are read as the
    numbers of examples call for.

    Attributes:
        data: `wikipedia-106`, `c4` (streamed; needs the Hugging Face hub), a .txt file with documents
            between blank lines, a folder of .txt files with a document each, or JSON lines with the
            document under `text` (.jsonl, .json, both also with .gz), which is C4's layout.
        length: longest chunk in tokens, the tokenizer's beginning-of-sequence token included.
    """

    headline: ClassVar[str] = "loss"
    instruction: ClassVar[str] = "Continue the text."
    generates: ClassVar[bool] = False

    data: str = "wikipedia-106"
    length: Annotated[int, Field(ge=_SHORTEST)] = 128

    @field_validator("data")
    @classmethod
    def _source(cls, data: str) -> str:
        return check_source(data, ["wikipedia-106", "c4"], hub=False)

    def fingerprint(self) -> str:
        """Of the catalogue's entry or of the local files' contents."""
        if is_path(self.data):
            return contents_fingerprint(local_files(Path(self.data)))
        return data_fingerprint(self.data)

    def positions(self) -> int:
        """Nearly all chunks are full."""
        return self.length

    def score(self, prediction: str, answers: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """Nothing is generated, so there is nothing to score."""
        return {}

    def splits(self) -> Splits:
        """Reads the documents; each is one example, which `rows` cuts up."""
        quarantined: list[Quarantined] = []
        found = self._documents(quarantined)
        texts = {_key(document.text): document for document in found}
        if len(texts) < len(SPLITS):
            raise UserError(
                f"splits are made by document, which takes at least 3 different documents, and {self.data} "
                f"has {len(texts)}; add documents or choose other data"
            )
        # A document of a large collection goes by its own hash, so that reading more of them leaves the
        # tested ones where they are; in a small one that could leave a split empty.
        large = len(texts) >= _LARGE
        places = {key: split_of(key) for key in texts} if large else split_in_order(texts)
        ordered = keyed_order(texts, "order")
        tables = {
            split: table(_example(key, texts[key]) for key in ordered if places[key] == split)
            for split in SPLITS
        }
        repeated = len(found) - len(texts)
        return Splits(
            **tables, quarantined=quarantined, notes={"repeated_documents": repeated} if repeated else {}
        )

    def row(self, example: Example, tokenizer: Any) -> Row | None:
        """One of the document's chunks, or None where it is too short for one."""
        return next(iter(self.rows(example, tokenizer)), None)

    def rows(self, example: Example, tokenizer: Any) -> list[Row]:
        """The document's chunks, in keyed order.

        Cut here and not in `splits`, because a chunk is counted in tokens and only here is there a
        tokenizer: passages cut by characters beforehand would end at other places for every model,
        and mostly be too short or too long. Where the tokenizer begins a text with a
        beginning-of-sequence token, so does every chunk, since models read poorly without theirs.
        """
        begin = [token for token in tokenizer("")["input_ids"] if token == tokenizer.bos_token_id]
        # `verbose` off: a document longer than the model's context is no reason to warn, it is cut.
        tokens = tokenizer(example.input, add_special_tokens=False, verbose=False)["input_ids"]
        step = self.length - len(begin)
        chunks = [begin + tokens[start : start + step] for start in range(0, len(tokens), step)]
        rows = {}
        for i, chunk in enumerate(chunks):
            if len(chunk) >= _SHORTEST:
                labels = [False] + [True] * (len(chunk) - 1)
                rows[f"{example.id}-{i}"] = Row(f"{example.id}-{i}", chunk, labels=labels, scored=labels)
        # Not from the beginning: few examples would then all be openings, which are a style of their own.
        return [rows[name] for name in keyed_order(rows, "order")]

    def _documents(self, quarantined: list[Quarantined]) -> list[Document]:
        if self.data == "wikipedia-106":
            return wikipedia()
        # Every document makes a chunk unless it is very short; the margin is for those, and for chance.
        number = 100 + 5 * keys_for({split: self.examples_of(split) for split in SPLITS}) // 4
        if self.data == "c4":
            return c4(number, quarantined)
        return local(Path(self.data), number, quarantined)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _example(key: str, document: Document) -> Example:
    return Example(id=key[:16], input=document.text, control=None, answers=(), group=document.name)
