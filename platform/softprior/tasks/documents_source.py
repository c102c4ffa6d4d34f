"""Reads documents from Wikipedia, C4, text files and JSON lines, and sets malformed ones aside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, cast

from softprior.assets.catalogue import HubDataset, data_asset
from softprior.assets.data import wikipedia_articles
from softprior.errors import UserError
from softprior.inputs.data_files import Malformed, contents, has_mark, lines, parsed, sound, text_at
from softprior.tasks.base import Quarantined
from softprior.tasks.hub_data import hub_rows
from softprior.tasks.sources import REREAD, contents_fingerprint, require, require_filled

JSON_LINES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")


class Document(NamedTuple):
    """A text that goes into one split as a whole; `name` says where it comes from."""

    name: str
    text: str


def wikipedia() -> list[Document]:
    """The catalogue's Wikipedia articles, named by their titles."""
    return [Document(article.title, article.text) for article in wikipedia_articles()]


def c4(number: int, quarantined: list[Quarantined]) -> list[Document]:
    """The first `number` documents of C4, streamed from the Hugging Face hub.

    Raises:
        UserError: the hub cannot be reached.
    """
    source = cast(HubDataset, data_asset("c4").source)
    rows = hub_rows(f"{source.repo}@{source.revision}", source.config, "train", streaming=True)
    return list(documents(islice(enumerate(rows), number), "c4", quarantined))


def local_files(path: Path) -> list[Path]:
    """The files that a path to a text file, a JSON lines file or a folder of text files stands for.

    Raises:
        UserError: it is none of these.
    """
    if require_filled(path).is_dir():
        # Hidden ones are not the user's: macOS puts a ._ file beside each file of an archive.
        files = sorted(file for file in path.glob("*.txt") if not file.name.startswith("."))
        if not files:
            raise UserError(
                f"the folder {path} contains no .txt files to read documents from; add some, or name one file"
            )
        return [require(file) for file in files]
    if not path.name.endswith((".txt", *JSON_LINES)):
        raise UserError(
            f"documents cannot be read from {path}, only from .txt, {', '.join(JSON_LINES)} or a folder of "
            ".txt files; convert it to one of these"
        )
    return [path]


def local_fingerprint(path: Path, number: int) -> str:
    """Identifies the contents of a local path's files.

    Args:
        number: lines that are read from a file of JSON lines.

    Raises:
        UserError: documents cannot be read from the path.
    """
    files = local_files(path)
    # A byte-order mark was once the first document's first character, or cost a first line; a carriage return
    # alone was once a line break; of a text that is there twice the last one was read.
    reread = any(has_mark(file) or _read_otherwise(file, number) for file in files)
    return contents_fingerprint(files) + (REREAD if reread else "")


def local(path: Path, number: int, quarantined: list[Quarantined]) -> Iterator[Document]:
    """The documents of a local path, read as they are asked for, malformed ones appended to `quarantined`.

    Every file of a folder is one document. In a single text file blank lines separate documents. In a
    JSON lines file (gzipped or not) every line is an object with the document under `text`, as in C4;
    only the first `number` lines of such a file are read, since C4's have hundreds of thousands.

    Raises:
        UserError: the path has none of these layouts, or cannot be read.
    """
    for file in local_files(path):
        try:
            if path.is_dir():
                yield from _checked([(file.name, "the whole file", contents(file))], file, quarantined)
            elif path.suffix == ".txt":
                blocks = enumerate(contents(path).split("\n\n"))
                texts = (
                    (f"{path.name}:{i}", f"document {i + 1}", text) for i, text in blocks if text.strip()
                )
                yield from _checked(texts, file, quarantined)
            else:
                yield from documents(islice(_rows(path), number), str(path), quarantined)
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error}); check the file and its disk") from None


def documents(
    rows: Iterable[tuple[int, object]], source: str, quarantined: list[Quarantined]
) -> Iterator[Document]:
    """The texts of numbered rows in C4's layout, rows without one appended to `quarantined`."""
    for number, row in rows:
        found = row if isinstance(row, Malformed) else text_at(row, "text")
        if not isinstance(found, Malformed) and not found.strip():
            found = Malformed("'text' is empty")
        if isinstance(found, Malformed):
            quarantined.append(Quarantined(source, f"line {number + 1}", found.reason, found.rest))
        else:
            yield Document(f"{source}:{number}", found)


def _checked(
    texts: Iterable[tuple[str, str, str]], file: Path, quarantined: list[Quarantined]
) -> Iterator[Document]:
    """Documents from their names, places in a file and texts; those that are not UTF-8 are set aside."""
    for name, place, text in texts:
        found = sound(text)
        if isinstance(found, Malformed):
            quarantined.append(Quarantined(str(file), place, found.reason))
        else:
            yield Document(name, found)


def _rows(path: Path) -> Iterator[tuple[int, object]]:
    """The rows of JSON lines that are not blank, by number."""
    for number, line in _filled(path):
        yield number, line if isinstance(line, Malformed) else parsed(line)


def _filled(path: Path) -> Iterator[tuple[int, str | Malformed]]:
    """The lines that are not blank, by number."""
    for number, (_, line) in enumerate(lines(path)):
        if isinstance(line, Malformed) or line.strip():
            yield number, line


def _read_otherwise(path: Path, number: int) -> bool:
    """Whether what is read has a carriage return without a line feed, or a row whose text is there twice."""
    if path.suffix == ".txt":
        return "\r" in contents(path)
    read = (line for _, line in islice(_filled(path), number) if isinstance(line, str))
    return any("\r" in line.replace("\r\n", "\n") or _is_doubled(parsed(line)) for line in read)


def _is_doubled(row: object) -> bool:
    text = row.get("text") if isinstance(row, dict) else None
    return isinstance(text, Malformed) and text.twice
