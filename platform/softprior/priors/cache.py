"""Fits are made once: the same data and parameters give the same fit, in every trial and process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from torch import Tensor

from softprior.assets.cache import ensure, lock
from softprior.inputs.origins import origins_of
from softprior.results.files import version_of
from softprior.results.provenance import edits
from softprior.results.tensor_files import open_tensors, save_tensors

VERSION = 8
"""Incremented when a fit of the same data would come out differently, or is written in another way."""

KEY = "softprior-fit"
"""The metadata key of a file's header: its own name, which identifies what was fitted, and the facts."""

KEPT = 16
"""Fits one process keeps in memory; a covariance at H = 2048 takes 34 MB."""

DAMAGED = (SafetensorError, KeyError, ValueError, FileNotFoundError)
"""What is raised on reading an incomplete file, as left by a machine that stopped, or a file that another
process has just removed for that reason. A fit can always be made again."""


class Fit(NamedTuple):
    """The result of a fit: tensors, and facts as JSON values."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def cached_fit(kind: str, key: dict[str, object], build: Callable[[], Fit], *components: object) -> Fit:
    """The fit of this kind for this key, built if no process has built it yet.

    Args:
        key: JSON values that decide the result: parameters, and fingerprints of the data. Edited code has its
            own fits, because nobody raises `VERSION` before editing.
        build: makes the fit.
        components: those whose methods it calls. Where they or `build` are not softprior's own, each version
            of a package and each text of a `--code` file has fits of its own, and where nothing identifies
            the code (see `origins_of`) the fit is made anew.
    """
    origins = origins_of(build, *components)
    if origins is None:
        return build()
    text = json.dumps([VERSION, kind, key, *edits(), *origins], sort_keys=True)
    relative = f"fits/{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"

    def write(path: Path) -> None:
        fit = build()
        tensors = {name: value.contiguous() for name, value in fit.tensors.items()}
        header = {"name": Path(relative).name, "facts": fit.facts}
        save_tensors(tensors, path, {KEY: json.dumps(header, allow_nan=False)})

    path = ensure(relative, write)
    try:
        return _read(path)
    except DAMAGED:
        with lock(relative):
            _remove_damaged(path)
        return _read(ensure(relative, write))


def _remove_damaged(path: Path) -> None:
    """Removes a file, unless another process has rebuilt it in the meantime."""
    try:
        _read(path)
    except DAMAGED:
        path.unlink(missing_ok=True)


def _read(path: Path) -> Fit:
    return _load(path, version_of(path))


@lru_cache(maxsize=KEPT)
def _load(path: Path, version: tuple[int, ...]) -> Fit:  # noqa: ARG001  a file built anew is read anew
    with open_tensors(path) as file:
        header = json.loads(file.metadata()[KEY])
        if header["name"] != path.name:
            raise ValueError("it is another fit")
        return Fit({name: file.get_tensor(name) for name in file.keys()}, header["facts"])  # noqa: SIM118
