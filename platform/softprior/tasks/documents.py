"""Tasks on running text: documents that are read and divided among the splits."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, field_validator

from softprior.assets.data import data_fingerprint
from softprior.errors import UserError
from softprior.inputs.base import SaysWhere
from softprior.inputs.paths import home_path
from softprior.tasks.base import SPLITS, Example, Quarantined, Split, Splits, Task, table
from softprior.tasks.documents_source import JSON_LINES, Document, c4, local, local_fingerprint, wikipedia
from softprior.tasks.partition import keyed_order, keys_for, split_in_order, split_of
from softprior.tasks.sources import check_source, in_brackets, is_path

SHORTEST = 16
"""Minimum number of tokens of a document's last chunk; a shorter one has too little context to learn from."""
_LARGE = 1000
"""Number of documents from which hashes alone divide a collection well enough."""


class DocumentTask(Task):
    """A task whose examples come out of documents.

    Splits are by document, and a text that occurs twice counts once. From C4 and JSON lines, which can be
    very long, only as many documents are read as the numbers of examples require.

    Attributes:
        data: `wikipedia-106`, `c4` (streamed; needs the Hugging Face hub), a .txt file with documents
            between blank lines, a folder of .txt files with one document each, or JSON lines with the
            document under `text` (.jsonl, .json, both also with .gz), which is C4's layout.
        length: longest example in tokens, the tokenizer's beginning-of-sequence token included.
    """

    data: Annotated[str, SaysWhere()] = "wikipedia-106"
    length: Annotated[int, Field(ge=SHORTEST)] = 128

    @abstractmethod
    def examples(
        self, documents: Mapping[Split, Mapping[str, Document]], notes: Counter[str]
    ) -> Mapping[Split, list[Example]]:
        """The examples in the order in which they are chosen.

        Args:
            documents: of every split, by name and in the order in which they are to be taken.
            notes: what is left out is counted here.
        """

    @field_validator("data")
    @classmethod
    def _source(cls, data: str) -> str:
        return check_source(data, ["wikipedia-106", "c4"], hub=False)

    def fingerprint(self) -> str:
        """Identifies the catalogue's entry or the local files' contents."""
        if is_path(self.data):
            return local_fingerprint(home_path(self.data), self._number())
        return data_fingerprint(self.data)

    @property
    def sources(self) -> tuple[str, ...]:
        return () if is_path(self.data) else (self.data,)

    def check_data(self) -> None:
        """Reads a local path as far as its first documents, enough for every split to have one."""
        if not is_path(self.data):
            return
        quarantined: list[Quarantined] = []
        keys = set()
        for document in local(home_path(self.data), self._number(), quarantined):
            keys.add(_key(document.text))
            if len(keys) == len(SPLITS):
                return
        raise self._too_few(len(keys), quarantined)

    def longest(self) -> int:
        return self.length

    def splits(self) -> Splits:
        """Reads the documents and makes examples of them."""
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
        examples = self.examples(documents, notes)
        tables = {split: table(examples[split]) for split in SPLITS}
        return Splits(**tables, quarantined=quarantined, notes=dict(+notes))

    def _documents(self, quarantined: list[Quarantined]) -> list[Document]:
        if self.data == "wikipedia-106":
            return wikipedia()
        if self.data == "c4":
            return c4(self._number(), quarantined)
        return list(local(home_path(self.data), self._number(), quarantined))

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
