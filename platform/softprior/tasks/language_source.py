"""Reading documents: Wikipedia, C4, text files and JSON lines, malformed lines set aside."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from softprior.assets.catalogue import HubDataset, data_asset
from softprior.assets.data import wikipedia_articles
from softprior.errors import UserError
from softprior.tasks.base import Quarantined
from softprior.tasks.sources import hub_rows, require

JSON_LINES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")


class Document(NamedTuple):
    """A text that stands whole in one split; `name` says where it comes from."""

    name: str
    text: str


def wikipedia() -> list[Document]:
    """The catalogue's Wikipedia articles, named by their titles."""
    return [Document(article.title, article.text) for article in wikipedia_articles()]


def c4(number: int, quarantined: list[Quarantined]) -> list[Document]:
    """The first `number` documents of C4, streamed from the Hugging Face hub.

    Raises:
        UserError: no hub can be reached.
    """
    source = cast(HubDataset, data_asset("c4").source)
    rows = hub_rows(f"{source.repo}@{source.revision}", source.config, "train", streaming=True)
    return list(documents(islice(enumerate(rows), number), "c4", quarantined))


def local_files(path: Path) -> list[Path]:
    """The files that a path to a text file, a JSON lines file or a folder of text files stands for.

    Raises:
        UserError: it is none of these.
    """
    if require(path).is_dir():
        files = sorted(path.glob("*.txt"))
        if not files:
            raise UserError(f"a folder of documents holds .txt files, and {path} has none; add some")
        return files
    if not path.name.endswith((".txt", *JSON_LINES)):
        raise UserError(
            f"documents are read from .txt, {', '.join(JSON_LINES)} or a folder of .txt files, not from "
            f"{path}; convert it to one of these"
        )
    return [path]


def local(path: Path, number: int, quarantined: list[Quarantined]) -> list[Document]:
    """The documents of a local path.

    Every file of a folder is one document. In a single text file blank lines separate documents. In a
    JSON lines file (gzipped or not) every line is an object with the document under `text`, as in C4;
    of such a file the first `number` lines are read, since C4's have hundreds of thousands.

    Raises:
        UserError: the path is of none of these layouts, or cannot be read.
    """
    files = local_files(path)
    try:
        if path.is_dir():
            return [Document(file.name, file.read_text(encoding="utf-8")) for file in files]
        if path.name.endswith(".txt"):
            blocks = path.read_text(encoding="utf-8").split("\n\n")
            return [Document(f"{path.name}:{i}", text) for i, text in enumerate(blocks) if text.strip()]
        with _opened(path) as lines:
            return list(documents(islice(_parsed(lines), number), str(path), quarantined))
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise UserError(
            f"documents are UTF-8 text, and {path} cannot be read ({error}); mend the file"
        ) from None


def documents(
    rows: Iterable[tuple[int, Any]], source: str, quarantined: list[Quarantined]
) -> Iterator[Document]:
    """The texts of numbered rows in C4's layout, rows without one appended to `quarantined`."""
    for number, row in rows:
        reason = None
        if isinstance(row, json.JSONDecodeError):
            reason = f"not valid JSON: {row.msg}"
        elif not isinstance(row, dict) or not isinstance(row.get("text"), str):
            reason = "'text' is missing or not a text"
        elif not row["text"].strip():
            reason = "'text' is empty"
        if reason is None:
            yield Document(f"{source}:{number}", row["text"])
        else:
            quarantined.append(Quarantined(source, f"line {number + 1}", reason))


def _opened(path: Path) -> IO[str]:
    return (
        gzip.open(path, "rt", encoding="utf-8") if path.name.endswith(".gz") else path.open(encoding="utf-8")
    )


def _parsed(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                yield number, error
