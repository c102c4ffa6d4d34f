"""Where texts come from: shards of tasks and files, each read on its own by any worker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from glob import escape, glob
from pathlib import Path
from typing import NamedTuple, Protocol

from softprior.activations.rows import KINDS, parts_of_file, place_of, rows
from softprior.activations.spec import ActivationsSpec, FilesSpec
from softprior.assets.tokens import Tokenizer, around, chunks
from softprior.errors import UserError
from softprior.inputs.data_files import Malformed, has_mark, kind_of
from softprior.inputs.labels import counted
from softprior.inputs.paths import home_path
from softprior.seeding import derive, numpy_generator
from softprior.tasks import TASKS, Task
from softprior.tasks.base import Split
from softprior.tasks.notes import data_notes
from softprior.tasks.parts import ANSWER, TEMPLATE
from softprior.tasks.prepare import prepare
from softprior.tasks.prepared import PreparedSplit, Text
from softprior.training.corrections import TokenizerFacts

MOST_GROUPS = 16
"""Most groups (modules, articles) of a task for which each gets a mean of its own."""

LEAST = 2
"""Fewest tokens of a text: the first one is a sink."""

UNREADABLE = (OSError, ValueError)
"""What is raised on reading a Parquet file that is damaged or on a failing disk."""


@dataclass(frozen=True)
class Shard:
    """A part of a task or file that one worker reads in one go.

    Attributes:
        name: unique within its source.
        source: the task's or files' name.
        file: empty for a task.
        first, last: rows of a task, bytes of a text file, row groups of a Parquet file; last excluded.
        tokens: number of tokens, about.
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
    def shuffled(self) -> int:
        """Number of tokens that are read a second time, shuffled, about."""
        return min(self.sequences * self.length, self.tokens)

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

    def shards(self, tokens: int) -> list[Shard]:
        """All of it in parts of about this many tokens, with no document in two of them."""

    def read(self, shard: Shard) -> Reading:
        """The texts of a shard."""


@dataclass(frozen=True)
class TaskTexts:
    """Examples of a task's split, answer included, documents together.

    Attributes:
        order: indices of the examples within the budget of tokens.
    """

    name: str
    split: PreparedSplit
    order: tuple[int, ...]
    groups: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: Task, name: str, split: Split, budget: int | None, loaded: Identified) -> TaskTexts:
        """The task's first examples, as many as fit into the budget, and at least one."""
        whole = prepare(task, loaded.tokenizer, loaded.fingerprint)
        prepared: PreparedSplit = getattr(whole, split)
        count, total = 0, 0
        for length in prepared.lengths:
            total += length
            if budget is not None and total > budget and count:
                break
            count += 1
        documents = prepared.column("document")
        order = sorted(range(count), key=lambda index: documents[index])
        groups = tuple(sorted(set(prepared.column("group")[:count])))
        few = groups if 1 < len(groups) <= MOST_GROUPS else ()
        # Once the template was part of the input, and texts were not joined as they are now.
        marks = ["template"] if TEMPLATE in prepared.text(order[0]).parts else []
        corrections = TokenizerFacts.of(loaded.tokenizer).corrections(task, trained=False)
        found = "-".join([task.fingerprint(), *marks, *corrections])
        return cls(name, prepared, tuple(order), few, found, tuple(data_notes(name, task, whole.look)))

    def shards(self, tokens: int) -> list[Shard]:
        documents = self.split.column("document")
        cuts, filled = [0], 0
        for at, index in enumerate(self.order):
            new = at == 0 or documents[index] != documents[self.order[at - 1]]
            if filled >= tokens and new:
                cuts.append(at)
                filled = 0
            filled += self.split.lengths[index]
        ends = [*cuts[1:], len(self.order)]
        shards = []
        for number, (first, last) in enumerate(zip(cuts, ends, strict=True)):
            count = sum(self.split.lengths[index] for index in self.order[first:last])
            name = f"{self.name}-{number:05d}"
            shards.append(Shard(name, self.name, "", first, last, count, count // (last - first)))
        return shards

    def read(self, shard: Shard) -> Reading:
        return Reading([self.split.text(index) for index in self.order[shard.first : shard.last]], [], [])


@dataclass(frozen=True)
class FileTexts:
    """Documents of files, cut into texts."""

    spec: FilesSpec
    tokenizer: Tokenizer

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def groups(self) -> tuple[str, ...]:
        return ()

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    @property
    def fingerprint(self) -> str:
        """A hash of names, sizes and times; hashing contents would take as long as reading the files."""
        facts: list[object] = [
            (str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in self.files()
        ]
        # Their first documents once began with the mark, or were lost: those stores contain other numbers.
        facts += [f"{path} without its mark" for path in self.files() if has_mark(path)]
        found = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        # Once the chunks of tokenizers with special tokens were others: only a document's ends had them.
        return f"{found}-chunks" if any(around(self.tokenizer)) else found

    @property
    def _pattern(self) -> Path:
        return home_path(self.spec.path)

    def files(self) -> list[Path]:
        """The files that the pattern names.

        Raises:
            UserError: there are none, or one is of an unknown kind.
        """
        given = f"files.{self.name}.path = '{self.spec.path}'"
        if "://" in self.spec.path:
            raise UserError(f"{given} is an address; fetch the file, and give a path that all workers see")
        if self._pattern.is_dir():
            raise UserError(
                f"{given} is a folder; name the files in it, such as '{self._pattern / '*.jsonl'}'"
            )
        # What is there is taken as it is, even if its name has brackets.
        folder = _fixed_folder(self._pattern)
        rest = self._pattern.relative_to(folder)
        pattern = Path(escape(str(folder))) / (escape(str(rest)) if self._pattern.is_file() else rest)
        found = sorted(Path(path) for path in glob(str(pattern)) if Path(path).is_file())
        if not found:
            raise UserError(f"{given} names no file; check the path")
        for path in found:
            if kind_of(path) not in KINDS:
                raise UserError(f"{path} is of an unknown kind; give .jsonl, .json, .txt or .parquet files")
        return found

    def shards(self, tokens: int) -> list[Shard]:
        column = self.spec.column
        parts = [(path, *part) for path in self.files() for part in parts_of_file(path, column, tokens)]
        shards = [
            Shard(f"{self.name}-{number:05d}", self.name, str(path), first, last, count, self.spec.length)
            for number, (path, first, last, count) in enumerate(parts)
        ]
        self._require_text(shards)
        return shards

    def _require_text(self, shards: Sequence[Shard]) -> None:
        """Refuses files without any text; reading stops at the first text."""
        reason = ""
        for shard in shards:
            try:
                for name, found in self._documents(shard):
                    if not isinstance(found, Malformed):
                        return
                    reason = reason or f"{name}: {found.reason}"
            except UNREADABLE:
                return  # the run tells which shard it is, and reads the others
        problem = f"have no text ({reason})" if reason else "are empty"
        raise UserError(f"files.{self.name}: the files of '{self.spec.path}' {problem}; give documents")

    def read(self, shard: Shard) -> Reading:
        texts: list[Text] = []
        skipped: list[str] = []
        lost: list[str] = []
        for name, found in self._documents(shard):
            if isinstance(found, Malformed):
                (lost if found.rest else skipped).append(f"{name}: {found.reason}")
                continue
            texts += [
                Text(f"{name}-{i}", name, "", piece, [0] * len(piece))
                for i, piece in enumerate(found)
                if len(piece) >= LEAST
            ]
        return Reading(texts, skipped, lost)

    def _documents(self, shard: Shard) -> Iterator[tuple[str, list[list[int]] | Malformed]]:
        """The chunks of each document, by its name; for malformed rows the reason, by their place."""
        path = Path(shard.file)
        # Not the base name alone: folders often contain files of the same name.
        file = path.relative_to(_fixed_folder(self._pattern)).as_posix()
        for row in rows(path, self.spec.column, shard.first, shard.last):
            found = self._chunks(row.document)
            if isinstance(found, Malformed):
                yield f"{file}, {place_of(row, path, shard.first)}", found
            else:
                yield f"{file}:{row.name}", found

    def _chunks(self, document: str | Malformed) -> list[list[int]] | Malformed:
        if isinstance(document, Malformed):
            return document
        pieces = chunks(self.tokenizer, document, self.spec.length)
        if pieces and len(pieces[0]) >= LEAST:
            return pieces
        number = counted(len(pieces[0]) if pieces else 0, "token")
        return Malformed(f"{number}, but a text has {LEAST} or more")


class Identified(Protocol):
    """A tokenizer and what identifies it, as `models.load.Loaded` has them."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def fingerprint(self) -> str: ...


def sources(spec: ActivationsSpec, loaded: Identified, where: str = "activations") -> dict[str, Source]:
    """The tasks and files of a spec by name.

    Raises:
        UserError: a task is unknown or its data is not available.
    """
    found: dict[str, Source] = {}
    for i, entry in enumerate(spec.tasks):
        task = TASKS.component(entry, where, f"tasks[{i}]")
        found[entry.name] = TaskTexts.of(task, entry.name, spec.split, spec.tokens, loaded)
    for files in spec.files:
        found[files.name] = FileTexts(files, loaded.tokenizer)
    return found


def key_of(name: str) -> int:
    """63 bits that identify a document or a text."""
    return _key(name)


@lru_cache(maxsize=4096)
def _key(name: str) -> int:
    return derive(0, "text", name)


def shuffled(text: Text, seed: int, keep_answer: bool = False) -> Text:
    """The text with all tokens but the first in another order; the first is a sink, whichever it is.

    Args:
        keep_answer: leave the answer as it is, which an encoder does not read.
    """
    moved = [i for i in range(1, len(text.tokens)) if not (keep_answer and text.parts[i] == ANSWER)]
    order = list(range(len(text.tokens)))
    for at, source in zip(moved, numpy_generator(seed, "shuffle", text.id).permutation(moved), strict=True):
        order[at] = int(source)
    return text._replace(tokens=[text.tokens[i] for i in order], parts=[text.parts[i] for i in order])


def _fixed_folder(pattern: Path) -> Path:
    """The innermost folder that contains every file a pattern can match."""
    fixed = Path()
    for part in pattern.parent.parts:
        if set("*?[") & set(part) and not (fixed / part).is_dir():
            break
        fixed /= part
    return fixed


def batches(texts: Sequence[Text], tokens: int) -> Iterator[list[Text]]:
    """Batches of texts of similar length, each with at most this many tokens, pads included, or one text."""
    batch: list[Text] = []
    for text in sorted(texts, key=lambda text: (len(text.tokens), text.id)):
        if batch and (len(batch) + 1) * len(text.tokens) > tokens:
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch
