"""Constant states of rows: in memory, and in files that all processes of a machine share."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from softprior.assets.cache import lock, place
from softprior.inputs.specs import FrozenCache

FOLDER = "frozen"
"""Under the cache folder."""

GB = 10**9
"""Bytes."""

LEFT = 0.9
"""Share of the limit on files that is left when the oldest are removed, so that this is done seldom."""

DIGEST = "sha256"
"""The tensor beside the states in a file: 32 bytes that tell whether the states are what was written."""

ABANDONED = 3600 * 10**9
"""Nanoseconds before the last use of any file: what was being written then is of a killed process."""

BETWEEN = 0.05
"""Share of the limit on files that a process writes before it looks at the folder again."""


class KeptRows:
    """Keeps states by key; the least recently used are forgotten first.

    What is kept is a constant of the frozen model, so that losing it costs time and changes no result: a
    file that is damaged, or that a full disk does not take, counts as one that is not there.
    """

    def __init__(self, limits: FrozenCache) -> None:
        """Keeps as much as the limits allow, the files in the cache folder."""
        self._memory = int(limits.memory * GB)
        self._files = None if limits.disk == 0 else _Files(place(f"{FOLDER}/files").parent, limits.disk * GB)
        self._rows: OrderedDict[str, Float[Tensor, "T H"]] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> Float[Tensor, "T H"] | None:
        """The states of a key, on the CPU; None if they are not kept."""
        if key in self._rows:
            self._rows.move_to_end(key)
            return self._rows[key]
        found = None if self._files is None else self._files.read(key)
        if found is not None:
            self._remember(key, found)
        return found

    def put(self, key: str, states: Float[Tensor, "T H"]) -> None:
        """Keeps states that were not there."""
        states = states.cpu().contiguous()
        self._remember(key, states)
        if self._files is not None:
            self._files.write(key, states)

    def _remember(self, key: str, states: Tensor) -> None:
        if states.nbytes > self._memory:
            return
        self._rows[key] = states
        self._bytes += states.nbytes
        while self._bytes > self._memory:
            _, oldest = self._rows.popitem(last=False)
            self._bytes -= oldest.nbytes


class _Files:
    """One file for each key. Processes read and write at once: a file gets its name when it is complete."""

    def __init__(self, folder: Path, limit: float) -> None:
        self._folder = folder
        self._limit = limit
        self._unseen = limit  # the first writer looks at what others have left
        self._full = False

    def read(self, key: str) -> Tensor | None:
        path = self._path(key)
        try:
            found = load(path.read_bytes())
            states, digest = found[key].clone(), found[DIGEST]
            os.utime(path)  # used just now
        except (OSError, SafetensorError, KeyError):
            return None
        return states if torch.equal(digest, _digest(states)) else None

    def write(self, key: str, states: Tensor) -> None:
        path = self._path(key)
        if self._full:
            return
        writing = path.with_name(f".{key}.{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            writing.write_bytes(save({key: states, DIGEST: _digest(states)}))
            writing.replace(path)
        except OSError:
            self._full = True  # or a folder that was made read-only; what is in memory goes on
            with suppress(OSError):
                writing.unlink(missing_ok=True)
            return
        self._unseen += states.nbytes
        if self._unseen > BETWEEN * self._limit:
            self._unseen = 0
            self._trim()

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"

    def _trim(self) -> None:
        """Removes the files that were used the longest ago, unless another process is doing so."""
        # Timeout is an OSError: whatever cannot be looked at or removed stays, and costs room alone.
        with suppress(OSError), lock(FOLDER).acquire(blocking=False):
            files = []
            for path in self._folder.glob("*/*"):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    files.append((status.st_mtime_ns, status.st_size, path))
            latest = max((used for used, _, _ in files), default=0)
            total = sum(size for _, size, _ in files)
            if total <= self._limit:
                return
            for used, size, path in sorted(files):
                if path.name.startswith(".") and latest - used < ABANDONED:
                    continue
                if total <= LEFT * self._limit:
                    break
                path.unlink(missing_ok=True)
                total -= size


def _digest(states: Float[Tensor, "T H"]) -> UInt8[Tensor, "32"]:
    found = hashlib.sha256(states.contiguous().view(torch.uint8).numpy().tobytes())
    return torch.frombuffer(bytearray(found.digest()), dtype=torch.uint8)
