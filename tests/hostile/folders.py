"""Bad folders: of models, results, adapters and tracking stores, and hostile archives."""

from __future__ import annotations

import io
import json
import sqlite3
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from softprior.assets.archives import extract
from softprior.assets.models import known_model
from softprior.exchange.adapters import CONFIG, read_adapter
from softprior.inputs.specs import ModelSpec, TrackingSpec
from softprior.library.reading import read_table
from softprior.library.results import Results
from softprior.results.digested import read_header
from softprior.results.examples import load_examples
from softprior.results.records import load_record, load_records, read_study
from softprior.statistics.store import load_statistics, stored
from softprior.tracking.client import (
    DATABASE,
    follow_artifacts,
    sqlite_uri,
    tracking_uri,
)
from tests.hostile.harness import Case
from tests.hostile.tensors import READERS

SAID = r"\S"
Make = Callable[[Path], Callable[[], object]]

TEXTS: dict[str, str | bytes] = {
    "empty": "",
    "null": "null",
    "a list": "[1, 2]",
    "a number": "5",
    "a text": '"x"',
    "no JSON": "{not json}",
    "cut": '{"a": {"b": ',
    "nested 10,000 deep": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "lists nested 100,000 deep": "[" * 100_000,
    "5,000 digits": '{"format": ' + "9" * 5000 + "}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte-order mark": b"\xef\xbb\xbf{}",
    "Latin 1": b'{"caf\xe9": 1}',
    "NaN": '{"a": NaN}',
    "HTML": "<!doctype html><html></html>",
    "a ZIP archive": b"PK\x03\x04" + bytes(100),
    "YAML": "spec: {name: x}\n",
    "wrong types": '{"spec": [], "trials": {}, "peft_type": [], "model_type": 5, "weight_map": []}',
}
"""What may be in the place of a JSON file."""


def _weights(folder: Path) -> None:
    READERS["weights"].write(folder)


def _config(text: str | bytes, name: str = "config.json") -> Make:
    """A model folder in which a file has this text."""

    def make(folder: Path) -> Callable[[], object]:
        _weights(folder)
        _write(folder / name, text)
        return lambda: known_model(ModelSpec(id=str(folder)))

    return make


def _write(path: Path, text: str | bytes) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def _reads(name: str, read: Callable[[Path], object]) -> Callable[[str | bytes], Make]:
    def of(text: str | bytes) -> Make:
        def make(folder: Path) -> Callable[[], object]:
            _write(folder / name, text)
            return lambda: read(folder)

        return make

    return of


def _adapter(text: str | bytes) -> Make:
    def make(folder: Path) -> Callable[[], object]:
        READERS["adapter"].write(folder)
        _write(folder / CONFIG, text)
        return lambda: read_adapter(folder)

    return make


def _index(text: str | bytes) -> Make:
    def make(folder: Path) -> Callable[[], object]:
        _weights(folder)
        (folder / "model.safetensors").rename(folder / "other.safetensors")
        _write(folder / "model.safetensors.index.json", text)
        return lambda: known_model(ModelSpec(id=str(folder)))

    return make


JSON: dict[str, Callable[[str | bytes], Make]] = {
    "config.json of a model": _config,
    "tokenizer.json of a model": lambda text: _config(text, "tokenizer.json"),
    "index of weights": _index,
    "adapter_config.json": _adapter,
    "record": _reads("aaaa.json", lambda folder: load_record(folder / "aaaa.json")),
    "study.json": _reads("study.json", lambda folder: read_study(folder / "study.json")),
    "file of facts": _reads("plan.json", lambda folder: read_header(folder / "plan.json", "remove it")),
}
SOUND = {("file of facts", name) for name in ("NaN", "wrong types")}
"""Objects in which nothing is asked for."""


def _gguf(content: bytes) -> Make:
    def make(folder: Path) -> Callable[[], object]:
        _write(folder / "x.gguf", content)
        return lambda: known_model(ModelSpec(id=str(folder / "x.gguf")))

    return make


def _model(change: Callable[[Path], object]) -> Make:
    def make(folder: Path) -> Callable[[], object]:
        _weights(folder)
        change(folder)
        return lambda: known_model(ModelSpec(id=str(folder)))

    return make


def _remote_code(folder: Path) -> None:
    """A model with code of its own, which would run if it were trusted."""
    own = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model", "AutoTokenizer": ["own.T", None]}
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": own}))
    (folder / "own.py").write_text("from pathlib import Path\nPath(__file__).with_name('RAN').touch()\n")


def _shards(names: list[str]) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "other.safetensors")
        index = {"metadata": {}, "weight_map": {f"t{i}": name for i, name in enumerate(names)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return change


def _moved(new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors").rename(folder / new)


MODELS: list[tuple[str, Callable[[Path], object], str]] = [
    ("a pickle for weights", _moved("pytorch_model.bin"), "run code"),
    ("code of its own", _remote_code, "config.json"),
    ("a shard that leads elsewhere", _shards(["../../../etc/passwd"]), "outside"),
    ("a shard at an absolute path", _shards(["/etc/passwd"]), "outside"),
    ("a shard that is a folder above", _shards([".."]), "missing"),
    ("a shard of 10,000 letters", _shards(["x" * 10_000]), "outside"),
    ("a shard with a NUL", _shards(["a\0b"]), "outside"),
    ("a shard that is no text", _shards([5]), "missing"),  # type: ignore[list-item]
    ("no tokenizer", lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer"),
    ("no config", lambda folder: (folder / "config.json").unlink(), "no config.json"),
    (
        "a config that is a folder",
        lambda f: ((f / "config.json").unlink(), (f / "config.json").mkdir()),
        "no config",
    ),
    ("weights that link to themselves", lambda f: _loop(f / "model.safetensors"), SAID),
    ("weights that link to a device", lambda f: _device(f / "model.safetensors"), SAID),
    (
        "a vocabulary of -1",
        lambda f: _write(f / "config.json", '{"model_type": "llama", "vocab_size": -1}'),
        "-1",
    ),
    (
        "a size of 10**18",
        lambda f: _write(f / "config.json", '{"model_type": "llama", "hidden_size": 1e18}'),
        SAID,
    ),
    (
        "10**9 blocks",
        lambda f: _write(f / "config.json", '{"model_type":"llama","num_hidden_layers":1000000000}'),
        SAID,
    ),
    ("an adapter beside the weights", lambda f: _write(f / "adapter_config.json", "{}"), "adapter"),
    (
        "a family with a path for a name",
        lambda f: _write(f / "config.json", '{"model_type": "../../x"}'),
        SAID,
    ),
]


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _archive(members: list[tuple[Any, bytes | None]], wanted: str, name: str = "a.tar.gz") -> Make:
    """A source distribution with these members, of which one is wanted."""

    def make(folder: Path) -> Callable[[], object]:
        with tarfile.open(folder / name, "w:gz") as archive:
            for info, content in members:
                info = tarfile.TarInfo(info) if isinstance(info, str) else info
                info.size = len(content or b"")
                archive.addfile(info, io.BytesIO(content or b""))
        return lambda: extract(folder / name, (wanted,), folder)

    return make


def _link(kind: bytes, to: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("wanted")
    info.type, info.linkname = kind, to
    return info


def _wheel(name: str, wanted: str, mode: int = 0) -> Make:
    def make(folder: Path) -> Callable[[], object]:
        with zipfile.ZipFile(folder / "a.whl", "w") as archive:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, b"/etc/passwd")
        return lambda: extract(folder / "a.whl", (wanted,), folder)

    return make


def _packed(content: bytes, name: str) -> Make:
    def make(folder: Path) -> Callable[[], object]:
        _write(folder / name, content)
        return lambda: extract(folder / name, ("wanted",), folder)

    return make


ARCHIVES: list[tuple[str, Make, str]] = [
    ("a path above", _archive([("../x", b"x")], "../x"), "leads out"),
    ("an absolute path", _archive([("/tmp/x", b"x")], "/tmp/x"), "leads out"),
    ("a path of Windows", _archive([("a\\..\\x", b"x")], "a\\..\\x"), "leads out"),
    ("a drive", _archive([("C:x", b"x")], "C:x"), "leads out"),
    ("a symbolic link", _archive([(_link(tarfile.SYMTYPE, "/etc/passwd"), None)], "wanted"), "not a regular"),
    ("a hard link", _archive([(_link(tarfile.LNKTYPE, "../../x"), None)], "wanted"), "not a regular"),
    ("a device", _archive([(_link(tarfile.CHRTYPE, ""), None)], "wanted"), "not a regular"),
    ("a pipe", _archive([(_link(tarfile.FIFOTYPE, ""), None)], "wanted"), "not a regular"),
    ("a folder", _archive([(_link(tarfile.DIRTYPE, ""), None)], "wanted"), "not a regular"),
    ("nothing that is wanted", _archive([("other", b"x")], "wanted"), "no member"),
    ("a wheel with a path above", _wheel("../x", "../x"), "leads out"),
    ("a wheel with a link", _wheel("wanted", "wanted", stat.S_IFLNK | 0o777), "not a regular"),
    ("a wheel that is none", _packed(b"x" * 100, "a.whl"), "damaged"),
    ("a wheel that is cut", _packed(b"PK\x03\x04" + bytes(20), "a.whl"), "damaged"),
    ("a tar file that is none", _packed(b"x" * 100, "a.tar.gz"), "damaged"),
    ("an empty tar file", _packed(b"", "a.tar.gz"), "damaged"),
    ("a tar file that is cut", _packed(b"\x1f\x8b\x08\x00" + bytes(20), "a.tar.gz"), "damaged"),
]


def _results(put: Callable[[Path], object], read: Callable[[Path], object]) -> Make:
    def make(folder: Path) -> Callable[[], object]:
        put(folder)
        return lambda: read(folder)

    return make


def _spelled(folder: Path) -> None:
    parquet.write_table(pa.table({"x": [1]}), folder / "aaaa.parquet")


RESULTS: list[tuple[str, Callable[[Path], object], Callable[[Path], object], str]] = [
    ("an empty folder", lambda _: None, Results, "no results of a study"),
    ("a file for a folder", lambda f: (f / "x").touch(), lambda f: Results(f / "x"), "no results of a study"),
    ("a path of 10,000 letters", lambda _: None, lambda f: Results(str(f / ("x" * 10_000))), "too long"),
    ("a path with a NUL", lambda _: None, lambda f: Results(f"{f}/a\0b"), "NUL character"),
    ("a bucket of another kind", lambda _: None, lambda _: Results("ftp://host/x"), "not a valid location"),
    (
        "a bucket that leads above",
        lambda _: None,
        lambda _: Results("s3://bucket/../x"),
        "not a valid location",
    ),
    (
        "a bucket with a password",
        lambda _: None,
        lambda _: Results("s3://me:secret@bucket/x"),
        r"\*\*\*|credentials",
    ),
    ("a record for a folder", lambda f: (f / "aaaa.json").mkdir(), load_records, SAID),
    (
        "examples of another table",
        _spelled,
        lambda f: load_examples(f / "aaaa.parquet", "aaaa", 1),
        "not a file",
    ),
    (
        "examples that are text",
        lambda f: _write(f / "a.parquet", "x"),
        lambda f: load_examples(f / "a.parquet", "a", 1),
        "damaged",
    ),
    (
        "examples that are a folder",
        lambda f: (f / "a.parquet").mkdir(),
        lambda f: load_examples(f / "a.parquet", "a", 1),
        SAID,
    ),
    (
        "a table that is text",
        lambda f: _write(f / "trials.parquet", "x"),
        lambda f: read_table(f / "trials.parquet"),
        "damaged",
    ),
    (
        "a table that is cut",
        lambda f: _write(f / "trials.parquet", b"PAR1" * 9),
        lambda f: read_table(f / "trials.parquet"),
        "damaged",
    ),
    ("no statistics", lambda _: None, lambda f: stored(f / "x"), "no statistics store"),
    (
        "a task that leads above",
        lambda _: None,
        lambda f: load_statistics(f, "../x", "resid.0", "all", None),
        "not the name",
    ),
    (
        "a site that leads above",
        lambda _: None,
        lambda f: load_statistics(f, "x", "../../y", "all", None),
        "not the name",
    ),
    (
        "a site of 10,000 letters",
        lambda _: None,
        lambda f: load_statistics(f, "x", "y" * 10_000, "all", None),
        "not the name",
    ),
    (
        "a class of its own",
        READERS["statistics"].write,
        lambda f: load_statistics(f, "task", "resid.0", "<b>", None),
        "no token class",
    ),
]


def _database(content: bytes | Callable[[Path], object]) -> Callable[[Path], object]:
    def put(folder: Path) -> None:
        if isinstance(content, bytes):
            _write(folder / DATABASE, content)
        else:
            content(folder)

    return put


def _without_tables(folder: Path) -> None:
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        database.execute("CREATE TABLE other (x)")


STORES: dict[str, Callable[[Path], object]] = {
    "text": _database(b"hello"),
    "zeros": _database(bytes(4096)),
    "a database's beginning": _database(b"SQLite format 3\0" + bytes(200)),
    "HTML": _database(b"<html></html>"),
    "a database of something else": _database(_without_tables),
    "a folder": _database(lambda folder: (folder / DATABASE).mkdir()),
}


JSON_FILES = [
    Case(f"{kind}, {name}", of(text), None if (kind, name) in SOUND else SAID)
    for kind, of in JSON.items()
    for name, text in TEXTS.items()
]

_GGUF = b"GGUF\x03\0\0\0"

GGUF = {
    "empty": b"",
    "text": b"hello",
    "its first letters": b"GGUF",
    "a header of zeros": _GGUF + bytes(100),
    "2**63 tensors": _GGUF + b"\xff" * 100,
    "2**40 facts": _GGUF + struct.pack("<QQ", 0, 2**40) + bytes(100),
    "a fact of 2**62 letters": _GGUF + struct.pack("<QQQ", 0, 1, 2**62) + bytes(100),
}

MODEL_FOLDERS = [
    *(Case(f"model, {name}", _model(change), says) for name, change, says in MODELS),
    *(Case(f"GGUF, {name}", _gguf(content), SAID) for name, content in GGUF.items()),
]

PACKED = [Case(f"archive, {name}", make, says) for name, make, says in ARCHIVES]

RESULTS_FOLDERS = [
    *(Case(f"results, {name}", _results(put, read), says) for name, put, read, says in RESULTS),
    *(Case(f"store, {name}", _results(put, follow_artifacts), SAID) for name, put in STORES.items()),
    Case(
        "store, a folder that the study names",
        _results(
            lambda f: (f / "x").mkdir(), lambda f: tracking_uri(TrackingSpec(uri=sqlite_uri(f / "x")), f)
        ),
        "is a folder",
    ),
]
