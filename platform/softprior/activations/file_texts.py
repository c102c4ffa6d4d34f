"""Texts of files: documents cut into chunks, and the files into shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path

from softprior.activations.rows import BYTES_PER_TOKEN, KINDS, parts_of_file, place_of, rows
from softprior.activations.shards import Reading, Shard
from softprior.activations.spec import FilesSpec
from softprior.assets.tokens import Tokenizer, around, chunks
from softprior.errors import UserError
from softprior.inputs.data_files import Malformed, has_mark, is_compressed, kind_of
from softprior.inputs.labels import counted
from softprior.inputs.paths import home_path
from softprior.tasks.prepared import Text

LEAST = 2
"""Fewest tokens of a text: the first one is a sink."""

SAMPLE = 2**16
"""Bytes of a file whose tokens are counted before it is read."""

UNREADABLE = (OSError, ValueError)
"""What is raised on reading a Parquet file that is damaged or on a failing disk."""


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
    def longest(self) -> int:
        return self.spec.length

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

    @property
    def density(self) -> float:
        """From the beginning of the first file; 1 for a packed file or a table, where that is no text."""
        path = self.files()[0]
        if kind_of(path) == ".parquet" or is_compressed(path):
            return 1.0
        try:
            with path.open("rb") as file:
                file.seek(SAMPLE - 1)
                file.readline()  # the line that begins before is read whole
                end = min(file.tell(), path.stat().st_size)
            tokens = sum(len(text.tokens) for text in self.read(self._part(path, SAMPLE)).texts)
        except UNREADABLE:
            return 1.0  # the run tells which part it is, and reads the others
        return tokens * BYTES_PER_TOKEN / end if tokens else 1.0

    def _part(self, path: Path, end: int) -> Shard:
        """The lines of a file that begin before a byte."""
        return Shard("", self.name, str(path), 0, min(end, path.stat().st_size), 0, self.spec.length)

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


def _fixed_folder(pattern: Path) -> Path:
    """The innermost folder that contains every file a pattern can match."""
    fixed = Path()
    for part in pattern.parent.parts:
        if set("*?[") & set(part) and not (fixed / part).is_dir():
            break
        fixed /= part
    return fixed
