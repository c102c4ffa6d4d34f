"""Where texts come from: shards of tasks and files, each read on its own by any worker."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from glob import glob
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow.parquet as parquet

from softprior.activations.spec import ActivationsSpec, FilesSpec
from softprior.errors import UserError
from softprior.seeding import derive, numpy_generator
from softprior.tasks import TASKS, Task
from softprior.tasks.base import Split
from softprior.tasks.prepare import PreparedSplit, Text, prepare
from softprior.validation import validate

VOCABULARY = "vocabulary"
"""The task of the store that holds the embedding of every token."""

MOST_GROUPS = 16
"""Groups (modules, articles) of a task that get a mean of their own, if there are no more of them."""

BYTES_PER_TOKEN = 4
"""Of English text, to cut files into shards before any of it is read."""


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
        sequences: texts of it that are also read shuffled.
        paths: texts of these whose states are kept whole, for figures.
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
        """Where in the data it lies, first and last one included."""
        if self.last <= self.first:
            return f"all of {self.source}"
        what = "examples" if not self.file else "row groups" if _is_parquet(self.file) else "bytes"
        return f"{what} {self.first:,} to {self.last - 1:,} of {self.file or self.source}"

    @property
    def texts(self) -> int:
        """Number of texts, about."""
        return max(self.tokens // self.length, 1)


class Reading(NamedTuple):
    """What a shard holds.

    Attributes:
        skipped: malformed rows that were left out: which, and why.
    """

    texts: list[Text]
    skipped: list[str]


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

    def shards(self, tokens: int) -> list[Shard]:
        """The whole in parts of about so many tokens, no document in two of them."""

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

    @classmethod
    def of(cls, task: Task, name: str, split: Split, budget: int | None, loaded: Tokenizer) -> TaskTexts:
        """The task's first examples, as many as fit into the budget, and at least one."""
        prepared: PreparedSplit = getattr(prepare(task, loaded.tokenizer, loaded.fingerprint), split)
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
        return cls(name, prepared, tuple(order), few, task.fingerprint())

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
        return Reading([self.split.text(index) for index in self.order[shard.first : shard.last]], [])


@dataclass(frozen=True)
class FileTexts:
    """Documents of files, cut into texts."""

    spec: FilesSpec
    tokenizer: Any

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def groups(self) -> tuple[str, ...]:
        return ()

    @property
    def fingerprint(self) -> str:
        """Of names, sizes and times; hashing files of any size would take as long as reading them."""
        facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in self.files()]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @property
    def _pattern(self) -> Path:
        return Path(self.spec.path).expanduser()

    def files(self) -> list[Path]:
        """The files that the pattern names.

        Raises:
            UserError: there are none, or one is of no known kind.
        """
        found = sorted(Path(path) for path in glob(str(self._pattern)) if Path(path).is_file())
        if not found:
            raise UserError(f"files.{self.name}.path = '{self.spec.path}' names no file; check the path")
        for path in found:
            if _kind(path) not in (".jsonl", ".json", ".txt", ".parquet"):
                raise UserError(f"{path} is of no known kind; give .jsonl, .json, .txt or .parquet files")
        return found

    def shards(self, tokens: int) -> list[Shard]:
        parts: list[tuple[Path, int, int, int]] = []
        for path in self.files():
            if _kind(path) == ".parquet":
                parts += _row_groups(path, self.spec.column, tokens)
                continue
            size = path.stat().st_size
            step = size if path.suffix == ".gz" else tokens * BYTES_PER_TOKEN
            parts += [
                (path, start, min(start + step, size), min(step, size - start) // BYTES_PER_TOKEN)
                for start in range(0, size, max(step, 1))
            ]
        if not parts:
            raise UserError(f"files.{self.name}: the files of '{self.spec.path}' are empty; add documents")
        return [
            Shard(f"{self.name}-{number:05d}", self.name, str(path), first, last, count, self.spec.length)
            for number, (path, first, last, count) in enumerate(parts)
        ]

    def read(self, shard: Shard) -> Reading:
        texts, skipped = [], []
        folder = _fixed_folder(self._pattern)
        for place, document in self._rows(shard):
            # Not the base name alone: folders often hold files of one name.
            name = f"{Path(shard.file).relative_to(folder).as_posix()}:{place}"
            if not isinstance(document, str):
                skipped.append(f"{name}: {document.reason}")
                continue
            tokens = self.tokenizer(document, verbose=False)["input_ids"]
            pieces = [tokens[at : at + self.spec.length] for at in range(0, len(tokens), self.spec.length)]
            texts += [
                Text(f"{name}-{i}", name, "", piece, [0] * len(piece))
                for i, piece in enumerate(pieces)
                if len(piece) > 1
            ]
        return Reading(texts, skipped)

    def _rows(self, shard: Shard) -> Iterator[tuple[str, str | _Malformed]]:
        """Where each row stands, and its document; empty ones are passed over."""
        path = Path(shard.file)
        if _kind(path) == ".parquet":
            file = parquet.ParquetFile(path)
            for group in range(shard.first, shard.last):
                column = file.read_row_group(group, columns=[self.spec.column]).column(0)
                for row, value in enumerate(column.to_pylist()):
                    yield from _checked(f"group {group} row {row}", value)
            return
        for start, line in _lines(path, shard.first, shard.last):
            try:
                text = line.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                yield f"byte {start}", _Malformed(f"not UTF-8 ({error.reason} at its byte {error.start})")
                continue
            if _kind(path) == ".txt" or not text:
                yield from _checked(f"byte {start}", text)
                continue
            try:
                value = json.loads(text)
            except ValueError as error:
                yield f"byte {start}", _Malformed(f"not valid JSON ({error})")
                continue
            if not isinstance(value, dict):
                yield f"byte {start}", _Malformed("not an object")
            elif self.spec.column not in value:
                known = ", ".join(value) or "nothing"
                yield f"byte {start}", _Malformed(f"no '{self.spec.column}'; it has {known}")
            else:
                yield from _checked(f"byte {start}", value[self.spec.column])


@dataclass(frozen=True)
class _Malformed:
    reason: str


def _checked(place: str, value: Any) -> Iterator[tuple[str, str | _Malformed]]:
    if not isinstance(value, str):
        yield place, _Malformed(f"no text but {str(value)[:40]}")
    elif value.strip():
        yield place, value


class Tokenizer(Protocol):
    """A tokenizer and what identifies it, as `models.load.Loaded` has them."""

    @property
    def tokenizer(self) -> Any: ...

    @property
    def fingerprint(self) -> str: ...


def sources(spec: ActivationsSpec, loaded: Tokenizer, where: str = "activations") -> dict[str, Source]:
    """The tasks and files of a spec by name.

    Raises:
        UserError: a task is unknown or its data cannot be had.
    """
    found: dict[str, Source] = {}
    for i, entry in enumerate(spec.tasks):
        if entry.name not in TASKS:
            raise UserError(
                f"{where}: tasks[{i}] = '{entry.name}' does not exist; there are {', '.join(TASKS)}"
            )
        task = validate(TASKS[entry.name], entry.params, f"{where}: tasks[{i}].{entry.name}")
        found[entry.name] = TaskTexts.of(task, entry.name, spec.split, spec.tokens, loaded)
    for files in spec.files:
        found[files.name] = FileTexts(files, loaded.tokenizer)
    return found


def key_of(name: str) -> int:
    """63 bits that stand for a document or a text."""
    return _key(name)


@lru_cache(maxsize=4096)
def _key(name: str) -> int:
    return derive(0, "text", name)


def shuffled(text: Text, seed: int) -> Text:
    """The text with all tokens but the first in another order; the first is a sink wherever it comes from."""
    order = [0, *(1 + numpy_generator(seed, "shuffle", text.id).permutation(len(text.tokens) - 1))]
    return text._replace(tokens=[text.tokens[i] for i in order], parts=[text.parts[i] for i in order])


def _kind(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix


def _is_parquet(file: str) -> bool:
    return _kind(Path(file)) == ".parquet"


def _fixed_folder(pattern: Path) -> Path:
    """The innermost folder that all files of a pattern are in, whichever there are."""
    fixed = takewhile(lambda part: not set("*?[") & set(part), pattern.parent.parts)
    return Path(*fixed)


def _row_groups(path: Path, column: str, tokens: int) -> list[tuple[Path, int, int, int]]:
    try:
        facts = parquet.ParquetFile(path).metadata
        names = facts.schema.to_arrow_schema().names
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged or not a Parquet file: {error}") from None
    if column not in names:
        raise UserError(f"{path} has no column '{column}'; it has {', '.join(names)}")
    at = names.index(column)
    sizes = [facts.row_group(g).column(at).total_uncompressed_size for g in range(facts.num_row_groups)]
    parts, first, filled = [], 0, 0
    for group, size in enumerate(sizes):
        filled += size // BYTES_PER_TOKEN
        if filled >= tokens or group == len(sizes) - 1:
            parts.append((path, first, group + 1, filled))
            first, filled = group + 1, 0
    return parts


def _lines(path: Path, first: int, last: int) -> Iterator[tuple[int, bytes]]:
    """The lines that start at a byte from `first` to before `last`, and where."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        if path.suffix == ".gz":
            last = 2**63
        elif first:
            file.seek(first - 1)
            file.readline()  # the end of a line that starts in the shard before
        at = file.tell()
        while at < last and (line := file.readline()):
            yield at, line
            at += len(line)


def batches(texts: Sequence[Text], tokens: int) -> Iterator[list[Text]]:
    """Texts of like length together, at most so many tokens a batch (one text at least), pads counted."""
    batch: list[Text] = []
    for text in sorted(texts, key=lambda text: (len(text.tokens), text.id)):
        if batch and (len(batch) + 1) * len(text.tokens) > tokens:
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch
