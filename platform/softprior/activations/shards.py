"""Shards: parts of a task or of files, each read on its own by any worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from softprior.inputs.data_files import kind_of
from softprior.tasks.prepared import Text


@dataclass(frozen=True)
class Shard:
    """A part of a task or file that one worker reads in one go.

    Attributes:
        name: unique within its source.
        source: the task's or files' name.
        file: empty for a task.
        first, last: rows of a task, bytes of a text file, row groups of a Parquet file; last excluded.
        tokens: number of tokens, about; of a file, a quarter of its bytes.
        length: of one text, about.
        sequences: number of its texts that are also read shuffled.
        paths: number of these texts whose states are kept whole, for figures.
    """

    name: str
    source: str
    file: str
    first: int
    last: int
    tokens: int
    length: int
    sequences: int = 0
    paths: int = 0

    @property
    def place(self) -> str:
        """Its range in the data, first and last one included."""
        if self.last <= self.first:
            return f"all of {self.source}"
        kind = "row groups" if kind_of(Path(self.file)) == ".parquet" else "bytes"
        what = kind if self.file else "examples"
        return f"{what} {self.first:,} to {self.last - 1:,} of {self.file or self.source}"

    @property
    def texts(self) -> int:
        """Number of texts, about."""
        return max(self.tokens // self.length, 1)


class Reading(NamedTuple):
    """What a shard contains.

    Attributes:
        skipped: malformed rows that were left out: which, and why.
        lost: the same for files whose remainder cannot be read.
    """

    texts: list[Text]
    skipped: list[str]
    lost: list[str]


class Source(Protocol):
    """Texts of one task or of some files."""

    @property
    def name(self) -> str: ...

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups that get a mean of their own; empty if there are none or too many."""

    @property
    def fingerprint(self) -> str:
        """Identifies the data."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is left out of the data, as far as it is known before they are read."""

    @property
    def longest(self) -> int:
        """Tokens of its longest text, at most."""

    @property
    def density(self) -> float:
        """Number of tokens that it has for each one that its shards say."""

    def shards(self, tokens: int) -> list[Shard]:
        """All of it in parts of about this many tokens, with no document in two of them."""

    def read(self, shard: Shard) -> Reading:
        """The texts of a shard."""
