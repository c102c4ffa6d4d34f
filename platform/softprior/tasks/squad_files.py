"""Files of question-answer pairs: SQuAD's nested JSON, and records as the Hugging Face hub has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from softprior.errors import UserError, a_kind
from softprior.inputs.data_files import (
    Malformed,
    contents,
    kind_of,
    lines,
    parquet_file,
    parsed,
    parsed_whole,
)
from softprior.inputs.row_files import Item, json_lines, parquet_rows
from softprior.tasks.sources import require_filled

LAYOUT = (
    'SQuAD v1.1 is {"data": [{"title": ..., "paragraphs": [{"context": ..., "qas": [...]}]}]}, or records '
    "(one object per line, or Parquet) with id, title, context, question and answers"
)

PARTS = (("train",), ("dev", "validation"))
"""Names of the files in a folder, to train on and to evaluate on."""

ENDINGS = (".json", ".jsonl", ".parquet", ".json.gz", ".jsonl.gz")

NEEDED = ("context", "question", "answers")
"""Columns that a row of a table needs to be a question."""

USED = ("id", "guid", "title", "document_id", *NEEDED)

_LOOKED_AT = 8
"""Number of lines, without blank ones, that tell records from one JSON value: the first may be damaged."""


def part_files(path: Path) -> list[Path]:
    """The file that a path names, or a folder's two: one to train on and one to evaluate on."""
    if not path.is_dir():
        return [path]
    return [
        next(
            (file for name in names for ending in ENDINGS if (file := path / f"{name}{ending}").is_file()),
            path / f"{names[0]}.json",
        )
        for names in PARTS
    ]


def is_nested(path: Path) -> bool:
    """Whether it is one JSON value, which is read whole, rather than one per line."""
    if kind_of(path) in (".jsonl", ".parquet"):
        return False
    try:
        filled = (line.text for line in lines(path) if isinstance(line.text, Malformed) or line.text.strip())
        begin = list(islice(filled, _LOOKED_AT))
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(begin) < 2:
        return True
    objects = [isinstance(text, str) and isinstance(parsed(text), dict) for text in begin]
    # A line of one JSON value can be an object too, the last article of a list; its first line cannot.
    return not any(objects) or (not objects[0] and _is_json(path))


def items(path: Path) -> Iterator[Item]:
    """The articles or records of a file, read as they are asked for if it has one per row.

    Raises:
        UserError: the file is missing, cannot be read, or has another layout.
    """
    require_filled(path)
    if kind_of(path) == ".parquet":
        return _table(path)
    return _nested(path) if is_nested(path) else json_lines(path)


def _is_json(path: Path) -> bool:
    try:
        parsed_whole(contents(path))
    except (json.JSONDecodeError, RecursionError, UserError):
        return False
    except OSError as error:
        raise _unreadable(path, error) from None
    return True


def _nested(path: Path) -> Iterator[Item]:
    try:
        whole = parsed_whole(contents(path))
    except (json.JSONDecodeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"the SQuAD file {path} is not valid JSON ({reason}); {LAYOUT}") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if isinstance(whole, list):
        return (Item(f"[{i}]", value) for i, value in enumerate(whole))
    if isinstance(whole, dict) and isinstance(data := whole.get("data"), Malformed):
        raise UserError(f"the SQuAD file {path} cannot be read: {data.reason}; {LAYOUT}")
    if not isinstance(whole, dict) or not isinstance(whole.get("data"), list):
        keys = f"; it has {', '.join(whole)}" if isinstance(whole, dict) and whole else ""
        if isinstance(whole, dict) and "data" in whole:
            keys = f" but {'null' if whole['data'] is None else a_kind(whole['data'])}"
        raise UserError(f"the SQuAD file {path} has no list under the key 'data'{keys}; {LAYOUT}")
    return (Item(f"data[{i}]", value) for i, value in enumerate(whole["data"]))


def _table(path: Path) -> Iterator[Item]:
    names = parquet_file(path).schema_arrow.names
    missing = next((name for name in NEEDED if name not in names), None)
    if missing is not None:
        raise UserError(f"{path} has no column '{missing}'; it has {', '.join(names)}; {LAYOUT}")
    return parquet_rows(path, USED)


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"the SQuAD file {path} cannot be read ({error}); check the file and its disk")
