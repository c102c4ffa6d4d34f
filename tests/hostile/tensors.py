"""Damaged and hostile safetensors files: posteriors, statistics, checkpoints, adapters, sums and weights."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, safe_open, save_file

from softprior.activations.state import Partial, TaskState
from softprior.assets.checkpoint import read_checkpoint
from softprior.exchange.adapters import CONFIG, WEIGHTS, read_adapter
from softprior.inputs.specs import Rate, TrainingSpec
from softprior.prompt import Place
from softprior.results.posteriors import Posterior, load_posterior, save_posterior
from softprior.results.records import Score, StepPoint
from softprior.results.tensor_files import open_tensors
from softprior.statistics.store import SiteStatistics, load_statistics, save_statistics
from softprior.training.checkpoint import TrialState, load_checkpoint, save_checkpoint
from softprior.training.optimizer import PromptOptimizer
from tests.hostile.harness import Case

VECTORS = {Place(0): torch.arange(12.0).reshape(3, 4)}


class Reader(NamedTuple):
    """A kind of safetensors file.

    Attributes:
        write: writes a sound folder, and returns the file to damage.
        read: reads what is in the folder.
        says: a pattern of the sentence about a damaged one; None if damage means that there is none.
        hides: damages that need not be found, as nothing of what is damaged is read.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], object]
    says: str | None
    hides: tuple[str, ...] = ()


def _posterior(folder: Path) -> Path:
    save_posterior(folder / "p.safetensors", Posterior({"trial": "t"}, VECTORS, VECTORS, {2: VECTORS}))
    return folder / "p.safetensors"


def _optimizer() -> PromptOptimizer:
    return PromptOptimizer(VECTORS, Rate(value=0.1), TrainingSpec(steps=2, batch=1))


def _checkpoint(folder: Path) -> Path:
    optimizer = _optimizer()
    optimizer.step(0, VECTORS)
    point = StepPoint(step=1, loss=1.0, labels=2, rate=0.1, gradient=1.0, moved=0.1)
    score = Score(step=0, loss=1.0, accuracy=0.5, examples=1, tokens=2)
    state = TrialState(1, [point], [score], {1: VECTORS}, 1.0)
    save_checkpoint(folder / "c.safetensors", "t", state, optimizer.state())
    return folder / "c.safetensors"


def _no_checkpoint(folder: Path) -> None:
    found = load_checkpoint(folder / "c.safetensors", "t")
    assert found is None or not _optimizer().fits(found[1])


def _statistics(folder: Path) -> Path:
    found = SiteStatistics.of(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)))
    return save_statistics(folder, "task", "resid.0", "model", {"all": found}, facts={"embeddings": "raw"})


def _adapter(folder: Path) -> Path:
    config = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 3}
    (folder / CONFIG).write_text(json.dumps(config))
    save_file({"prompt_embeddings": VECTORS[Place(0)]}, folder / WEIGHTS)
    return folder / WEIGHTS


def _sums(folder: Path) -> Path:
    state = TaskState("task", 4, True, ())
    site = state.site("resid.0", 4)
    site.of("all").moments.add(torch.ones(3, 4))
    state.end_shard("s", {"texts": 1, "tokens": 3, "documents": 1, "skipped": 0, "reasons": []})
    state.save(folder / "sums.safetensors")
    return folder / "sums.safetensors"


def _weights(folder: Path) -> Path:
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text("{}")
    save_file({"a": torch.ones(2, 2)}, folder / "model.safetensors")
    return folder / "model.safetensors"


_UNREAD = ("another text in the header", "no header of ours", "a header that is a list")
"""Cases of files whose metadata nothing reads."""

READERS = {
    "posterior": Reader(
        _posterior,
        lambda at: load_posterior(at / "p.safetensors"),
        "posterior|damaged|NaN",
        ('the header {"format": 1}',),
    ),
    "checkpoint": Reader(_checkpoint, _no_checkpoint, None),
    "statistics": Reader(
        _statistics,
        lambda at: load_statistics(at, "task", "resid.0", "all", None),
        "damaged|statistics",
    ),
    "adapter": Reader(_adapter, read_adapter, "damaged|must|contains|NaN", _UNREAD),
    "activation sums": Reader(
        _sums, lambda at: Partial(at / "sums.safetensors").load(), "damaged", ("numbers that are not finite",)
    ),
    "weights": Reader(
        _weights,
        lambda at: read_checkpoint(at).tensors(),
        "damaged|empty|LFS|contains no",
        (
            *("numbers that are not finite", "no tensors", "tensors of another shape", "whole numbers"),
            *("tensors of another name", *_UNREAD),
        ),
    ),
}


def _raw(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _tensor(dtype: str = "F32", shape: Iterable[int] = (1,), begin: int = 0, end: int = 4) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


class _Runs:
    """A pickle of this runs a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("RAN"),))


RAW: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\0",
    "a length alone": struct.pack("<Q", 100),
    "a header of a gigabyte": struct.pack("<Q", 2**30) + b"{" * 1000,
    "a header of 16 exabytes": struct.pack("<Q", 2**64 - 1) + b"{}",
    "a header of no bytes": struct.pack("<Q", 0),
    "a header that is no JSON": _raw(b"{not json}"),
    "a header that is a number": _raw(5),
    "a header that is text in Latin 1": _raw(b'{"caf\xe9": 1}'),
    "a header nested 10,000 deep": _raw(b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "a tensor beyond the file": _raw({"a": _tensor(end=2**40, shape=(2**38,))}),
    "a tensor of a negative size": _raw({"a": _tensor(begin=4, end=0)}, bytes(4)),
    "a tensor of too many elements": _raw({"a": _tensor(shape=(2**40, 2**40))}, bytes(4)),
    "tensors that overlap": _raw({"a": _tensor(), "b": _tensor()}, bytes(4)),
    "a gap between tensors": _raw({"a": _tensor(begin=4, end=8)}, bytes(8)),
    "an unknown type": _raw({"a": _tensor(dtype="PICKLE")}, bytes(4)),
    "bytes behind the last tensor": _raw({"a": _tensor()}, bytes(4) + b"<script>"),
    "a pickle": pickle.dumps(_Runs()),
    "a ZIP archive with a pickle": b"PK\x03\x04" + pickle.dumps(_Runs()),
    "HTML": b"<!doctype html><html><body>404</body></html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 34\n",
    "a JSON text": b'{"softprior": "x"}',
    "random bytes": np.random.default_rng(0).bytes(4096),
}

HEADERS = (
    "null",
    "[]",
    "5",
    '"x"',
    "{}",
    "{",
    '{"format": 1}',
    '{"format": 99}',
    '{"trial": 5, "step": "x"}',
)


def _cut(share: float, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])


def _flipped(seed: int, path: Path) -> None:
    """One bit of the header's JSON is another."""
    whole = bytearray(path.read_bytes())
    length = struct.unpack("<Q", whole[:8])[0]
    at = int(np.random.default_rng(seed).integers(0, 8 + length))
    whole[at] ^= 1 << seed % 8
    path.write_bytes(whole)


def _edited(change: Callable[[dict[str, torch.Tensor]], Any], path: Path) -> None:
    with open_tensors(path) as file:
        metadata = file.metadata() or None  # without digests, as an older version writes it
    tensors = load_file(path)
    changed = change(tensors)
    save_file(tensors if changed is None else changed, path, metadata)


def _with_header(text: str, path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {"format": "pt"}
    tensors = load_file(path)
    save_file(tensors, path, dict.fromkeys(metadata, text))


def _nan(tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensors[name] = torch.full_like(tensor, float("nan"))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),  # type: ignore[dict-item, return-value]
    "cut in half": partial(_cut, 0.5),
    "cut in the header": partial(_cut, 0.05),
    "numbers that are not finite": partial(_edited, _nan),
    "no tensors": partial(_edited, lambda _: {}),
    "tensors of another shape": partial(
        _edited, lambda tensors: {n: t.flatten()[:1] for n, t in tensors.items()}
    ),
    "whole numbers": partial(
        _edited, lambda tensors: {n: t.to(torch.int8).flatten() for n, t in tensors.items()}
    ),
    "tensors of another name": partial(
        _edited, lambda tensors: {f"../../{n}": t for n, t in tensors.items()}
    ),
    "another text in the header": partial(_with_header, "<script>alert(1)</script>"),
    "a header that is a list": partial(_with_header, "[1, 2]"),
    "no header of ours": lambda path: save_file(load_file(path), path),
    "a folder in its place": _folder,
    "a link to itself": _loop,
}


def _made(kind: str, damage: Callable[[Path], object]) -> Callable[[Path], Callable[[], object]]:
    reader = READERS[kind]

    def make(folder: Path) -> Callable[[], object]:
        damage(reader.write(folder))
        return lambda: reader.read(folder)

    return make


def _written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _swapped(other: str) -> Callable[[Path], object]:
    """Puts a sound file of another kind in the place of a file."""

    def swap(path: Path) -> None:
        beside = path.parent / "other"
        beside.mkdir()
        content = READERS[other].write(beside).read_bytes()
        shutil.rmtree(beside)
        path.write_bytes(content)

    return swap


def _cases() -> list[Case]:
    found = []
    for kind, reader in READERS.items():
        damages: dict[str, Callable[[Path], object]] = {name: _written(raw) for name, raw in RAW.items()}
        damages |= DAMAGES
        damages |= {f"in place of it a {other}": _swapped(other) for other in READERS if other != kind}
        hidden = reader.hides
        if kind != "adapter" and kind != "weights":
            damages |= {f"the header {text}": partial(_with_header, text) for text in HEADERS}
        for name, damage in damages.items():
            says = None if name in hidden or (kind == "weights" and "in place" in name) else reader.says
            if kind == "checkpoint" and name == "a folder in its place":
                says = "cannot be read"
            found.append(Case(f"{kind}, {name}", _made(kind, damage), says))
    return found


CASES = _cases()
