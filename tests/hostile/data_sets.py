"""Bad data sets: JSON lines, CSV, Parquet, SQuAD and text that are damaged, hostile or something else."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from softprior.inputs.entries import Entry
from softprior.tasks import TASKS
from softprior.tasks.base import SPLITS
from tests.hostile.harness import Case

ROWS = [{"q": f"{i} + {i}?", "a": str(2 * i)} for i in range(12)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
CSV = "q,a\n" + "".join(f"{row['q']},{row['a']}\n" for row in ROWS)
TEXTS = "\n\n".join(f"Document {i} says that it is number {i}." for i in range(12))
C4 = "".join(json.dumps({"text": f"Document {i}."}) + "\n" for i in range(12))
NULL: dict[str, Any] = {"data": [{"title": None, "paragraphs": None}]}


def _article(i: int, **changes: Any) -> dict[str, Any]:
    answer = {"text": f"word{i}", "answer_start": 3}
    asked = {"id": f"q{i}", "question": "What?", "answers": [answer], **changes}
    return {"title": f"T{i}", "paragraphs": [{"context": f"Of word{i} it is said.", "qas": [asked]}]}


def _squad(**changes: Any) -> str:
    return json.dumps({"data": [_article(i) for i in range(11)] + [_article(11, **changes)]})


SQUAD = _squad()


def _task(name: str, path: Path) -> Any:
    params: dict[str, Any] = {"data": str(path)}
    if name == "pairs":
        params |= {"input": "{q}\nAnswer:", "answer": "a"}
    if name == "choices":
        params |= {"input": "{q}", "labels": ["0", "2"], "answer": "a"}
    return TASKS.component(Entry(name=name, params=params), "own.yaml", "tasks[0]")


def _read(name: str, path: Path, left: int | None) -> None:
    """Reads all rows of a task, of which `left` are set aside; None for any number."""
    task = _task(name, path)
    task.fingerprint()
    task.check_data()
    splits = task.splits()
    assert sum(len(getattr(splits, split)) for split in SPLITS)
    for row in splits.quarantined:
        assert row.reason.isprintable()
    assert left is None or len(splits.quarantined) == left, splits.quarantined


def _case(
    name: str, file: str, content: str | bytes, left: int | None = None
) -> Callable[[Path], Callable[[], object]]:
    def make(folder: Path) -> Callable[[], object]:
        path = folder / file
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return partial(_read, name, path, left)

    return make


SAID = r"\S"
"""Any sentence: which of two faults comes first is not what is tested."""

ANY: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"x",
    "a line break": b"\n",
    "a NUL byte": b"\0",
    "a gzip file by its content": gzip.compress(b"x" * 1000),
    "a ZIP archive": b"PK\x03\x04" + bytes(100),
    "a Parquet file's ends": b"PAR1" + bytes(50) + b"PAR1",
    "UTF-16": LINES.encode("utf-16"),
    "UTF-32": LINES.encode("utf-32"),
    "random bytes": np.random.default_rng(0).bytes(4096),
    "HTML": b"<!doctype html>\n<html><body>404 Not Found</body></html>\n",
    "an array nested 100,000 deep": b"[" * 100_000,
    "objects nested 100,000 deep": b'{"a":' * 100_000,
    "a number of 5,000 digits": b"[" + b"9" * 5000 + b"]",
    "null": b"null",
    "a text of a megabyte": b'"' + b"x" * 2**20 + b'"',
}
FILES = (
    *(("pairs", f"own{ending}") for ending in (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz")),
    *(("squad", f"own{ending}") for ending in (".json", ".jsonl", ".parquet")),
    *(("language", f"own{ending}") for ending in (".jsonl", ".json.gz")),
)

READ: list[tuple[str, str, str, str, int]] = [
    ("a row that is cut", "pairs", "own.jsonl", LINES + '{"q": "x", ', 1),
    ("a row that is a list", "pairs", "own.jsonl", LINES + "[1, 2]\n", 1),
    ("a row that is null", "pairs", "own.jsonl", LINES + "null\n", 1),
    ("a row without the answer", "pairs", "own.jsonl", LINES + '{"q": "x"}\n', 1),
    ("a row of other types", "pairs", "own.jsonl", LINES + '{"q": [1], "a": {"b": 2}}\n', 1),
    ("a row with half a character", "pairs", "own.jsonl", LINES + '{"q": "\\ud800", "a": "x"}\n', 1),
    ("a row nested 1,000 deep", "pairs", "own.jsonl", LINES + f'{{"q": {"[" * 1000}{"]" * 1000}}}\n', 1),
    ("a row with 5,000 digits", "pairs", "own.jsonl", LINES + f'{{"q": {"9" * 5000}, "a": "x"}}\n', 1),
    ("HTML in a text", "pairs", "own.jsonl", LINES + '{"q": "<script>alert(1)</script>", "a": "x"}\n', 0),
    ("a template in a text", "pairs", "own.jsonl", LINES + '{"q": "{q.__class__}{{7*7}}", "a": "x"}\n', 0),
    ("an escape sequence in a text", "pairs", "own.jsonl", LINES + '{"q": "\\u001b[31m", "a": "x"}\n', 0),
    ("a NUL in a text", "pairs", "own.jsonl", LINES + '{"q": "a\\u0000b", "a": "x"}\n', 0),
    ("a text of a megabyte", "pairs", "own.jsonl", LINES + f'{{"q": "{"x" * 2**20}", "a": "x"}}\n', 0),
    ("a formula in a cell", "pairs", "own.csv", CSV + "=cmd|' /C calc'!A0,1\n", 0),
    ("a quote that is never closed", "pairs", "own.csv", CSV + '"x,1\n', 1),
    ("a row with too many fields", "pairs", "own.csv", CSV + "1,2,3\n", 1),
    ("a cell of a megabyte", "pairs", "own.csv", CSV + f"{'x' * 2**20},1\n", 0),
    ("a NUL in a cell", "pairs", "own.csv", CSV + "a\0b,1\n", 0),
    ("a question without answers", "squad", "own.json", _squad(answers=[]), 1),
    (
        "an answer that is elsewhere",
        "squad",
        "own.json",
        _squad(answers=[{"text": "no", "answer_start": 9}]),
        1,
    ),
    (
        "a start beyond the text",
        "squad",
        "own.json",
        _squad(answers=[{"text": "no", "answer_start": 10**9}]),
        1,
    ),
    ("a negative start", "squad", "own.json", _squad(answers=[{"text": "no", "answer_start": -5}]), 1),
    ("a start that is a text", "squad", "own.json", _squad(answers=[{"text": "no", "answer_start": "x"}]), 1),
    ("answers that are a text", "squad", "own.json", _squad(answers="no"), 1),
    ("a question that is a number", "squad", "own.json", _squad(question=5), 1),
    ("an id of 10,000 letters", "squad", "own.json", _squad(id="x" * 10_000), 0),
    ("an id that leads elsewhere", "squad", "own.json", _squad(id="../../etc/passwd"), 0),
    ("HTML in a question", "squad", "own.json", _squad(question="<img src=x onerror=alert(1)>"), 0),
    (
        "an article that is null",
        "squad",
        "own.json",
        json.dumps({"data": [*map(_article, range(12)), None]}),
        1,
    ),
    ("a document that is a number", "language", "own.jsonl", C4 + '{"text": 5}\n', 1),
    ("a document with half a character", "language", "own.jsonl", C4 + '{"text": "\\ud800"}\n', 1),
]

REFUSED: list[tuple[str, str, str, str | bytes]] = [
    ("no row that can be used", "pairs", "own.jsonl", "{}\n" * 12),
    ("too few rows", "pairs", "own.jsonl", LINES.splitlines()[0]),
    ("one row again and again", "pairs", "own.jsonl", (LINES.splitlines()[0] + "\n") * 12),
    ("another ending", "pairs", "own.xlsx", LINES),
    ("a pickle", "pairs", "own.pkl", LINES),
    ("a column twice", "pairs", "own.csv", "q,q,a\n1,2,3\n"),
    ("no header", "pairs", "own.csv", "1,2\n3,4\n"),
    ("a gzip file that is cut", "pairs", "own.csv.gz", gzip.compress(CSV.encode())[:30]),
    ("a gzip file that is none", "pairs", "own.csv.gz", CSV),
    ("a class that is no label", "choices", "own.jsonl", LINES.replace('"a": "', '"a": "x')),
    ("no list of articles", "squad", "own.json", '{"data": 5}'),
    ("articles of nothing", "squad", "own.json", json.dumps(NULL)),
    ("a list of numbers", "squad", "own.json", "[1, 2, 3]"),
    ("SQuAD cut in half", "squad", "own.json", SQUAD[: len(SQUAD) // 2]),
    ("a blank text", "language", "own.txt", "\n\n \n\n"),
    ("one document", "language", "own.txt", "Once."),
    ("a text in UTF-16", "language", "own.txt", TEXTS.encode("utf-16")),
    ("another ending", "language", "own.docx", TEXTS),
]


def _table(columns: dict[str, Any], cut: float = 1.0) -> Callable[[Path], Callable[[], object]]:
    def make(folder: Path) -> Callable[[], object]:
        path = folder / "own.parquet"
        parquet.write_table(pa.table(columns), path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * cut)])
        return partial(_read, "pairs", path, None)

    return make


def _placed(
    put: Callable[[Path], object], name: str, task: str = "pairs"
) -> Callable[[Path], Callable[[], object]]:
    def make(folder: Path) -> Callable[[], object]:
        put(folder / name)
        return partial(_read, task, folder / name, None)

    return make


def _texts_elsewhere(folder: Path) -> None:
    """A folder whose texts are links to what is not in it."""
    folder.mkdir()
    for i in range(4):
        (folder / f"{i}.txt").symlink_to(f"../../none-{i}")


NUMBERS = {"q": [row["q"] for row in ROWS], "a": [row["a"] for row in ROWS]}

CASES = [
    *(
        Case(f"{file}, {name}", _case(task, file, gzip.compress(raw) if file.endswith(".gz") else raw), SAID)
        for task, file in FILES
        for name, raw in ANY.items()
    ),
    *(Case(f"{file}, {name}", _case(task, file, text, left), None) for name, task, file, text, left in READ),
    *(Case(f"{file}, {name}", _case(task, file, text), SAID) for name, task, file, text in REFUSED),
    Case("Parquet, cut in half", _table(NUMBERS, 0.5), "damaged"),
    Case("Parquet, without its last byte", _table(NUMBERS, 0.999), "damaged"),
    Case("Parquet, no rows", _table({"q": pa.array([], pa.string()), "a": pa.array([], pa.string())}), SAID),
    Case("Parquet, no such column", _table({"x": NUMBERS["q"]}), SAID),
    Case("Parquet, nulls", _table({"q": pa.nulls(12), "a": pa.nulls(12)}), SAID),
    Case("Parquet, bytes", _table({"q": [b"\xff"] * 12, "a": NUMBERS["a"]}), SAID),
    Case("missing", _placed(lambda _: None, "own.jsonl"), "does not exist"),
    Case("a folder", _placed(Path.mkdir, "own.jsonl"), "is a folder"),
    Case("a pipe", _placed(os.mkfifo, "own.jsonl"), "neither a file nor a folder"),
    Case(
        "a device",
        _placed(lambda path: path.symlink_to("/dev/zero"), "own.jsonl"),
        "neither a file nor a folder",
    ),
    Case("a link to itself", _placed(lambda path: path.symlink_to(path), "own.jsonl"), SAID),
    Case("SQuAD, a pipe", _placed(os.mkfifo, "own.json", "squad"), "neither a file nor a folder"),
    Case("texts, a pipe", _placed(os.mkfifo, "own.txt", "language"), "neither a file nor a folder"),
    Case("texts, links to nothing", _placed(_texts_elsewhere, "texts", "language"), SAID),
    Case("texts, an empty folder", _placed(Path.mkdir, "texts", "language"), SAID),
]
