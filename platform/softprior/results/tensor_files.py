"""Tensor files of our own: safetensors that say what is in them, so that a changed bit is found.

Exports in the formats of other programs (adapters, weights) are as those programs write them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from softprior.inputs.base import parsed_json

DIGESTS, DIGESTED = "digests", "digested"
"""Members of a file's header. The first is a list: a digest of the rest of the header, then one per tensor in
the order of their names. The second says that there are digests: without it, a file that has lost them would
pass for one of an older version."""


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Writes contiguous tensors that share no memory, with digests of them and of the header.

    Args:
        metadata: one key, and the file's header: a JSON object. Several keys would come in any order, and the
            same content would be other bytes each time.

    Raises:
        ValueError: the header has a member of the name `digests` or `digested`.
    """
    ((key, text),) = metadata.items()
    header = json.loads(text)
    if taken := {DIGESTS, DIGESTED} & header.keys():
        raise ValueError(f"'{min(taken)}' is a name that tensor files use themselves; choose another")
    found = [_of_header(key, header), *(_of_tensor(name, tensors[name]) for name in sorted(tensors))]
    whole = json.dumps({**header, DIGESTS: found, DIGESTED: True})
    safetensors.torch.save_file(dict(tensors), path, {key: whole})


def without_digests(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata of a file as they were given to `save_tensors`, for those who read no tensor.

    Raises:
        ValueError: they are not as they were written.
    """
    return _checked(metadata).plain


class _Checked(NamedTuple):
    """Metadata without digests, and those of the tensors; None if an older version has written the file."""

    plain: dict[str, str]
    tensors: list[str] | None


def _checked(metadata: Mapping[str, str]) -> _Checked:
    plain, tensors = dict(metadata), None
    for key, text in metadata.items():
        try:
            header = parsed_json(text)
        except ValueError:
            continue  # whoever needs it says so
        if not isinstance(header, dict) or not {DIGESTS, DIGESTED} & header.keys():
            continue
        found, mark = header.pop(DIGESTS, None), header.pop(DIGESTED, None)
        if not isinstance(found, list) or not found or mark is not True:
            raise ValueError("it has lost its digests")
        try:
            own, plain[key] = _of_header(key, header), json.dumps(header)
        except RecursionError:
            raise ValueError("its header is nested too deeply") from None
        if found[0] != own:
            raise ValueError("its header is not as it was written")
        tensors = found[1:]
    return _Checked(plain, tensors)


class TensorFile:
    """An open file. Each tensor is compared with its digest as it is read.

    A file without digests, which an older version has written, is read as it is.
    """

    def __init__(self, file: safe_open) -> None:
        """Compares the header with its digest.

        Raises:
            ValueError: it is not as it was written.
        """
        self._file = file
        self._metadata, digests = _checked(file.metadata() or {})
        names = sorted(self.keys())
        if digests is not None and len(digests) != len(names):
            raise ValueError(f"it has {len(names)} tensors and digests of {len(digests)}")
        self._digests = dict(zip(names, digests or (), strict=False))

    def metadata(self) -> dict[str, str]:
        """All but the digests."""
        return self._metadata

    def keys(self) -> list[str]:
        """Names of the tensors."""
        return list(self._file.keys())

    def get_tensor(self, name: str) -> Tensor:
        """One of the tensors.

        Raises:
            ValueError: it is not as it was written.
            SafetensorError: there is none of this name.
        """
        tensor: Tensor = self._file.get_tensor(name)
        if name in self._digests and self._digests[name] != _of_tensor(name, tensor):
            raise ValueError(f"{name} is not as it was written")
        return tensor

    def shape(self, name: str) -> list[int]:
        """The shape of a tensor, from the file's header alone; it is compared when the tensor is read."""
        return list(self._file.get_slice(name).get_shape())


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Opens a file that `save_tensors` has written, or an older version.

    Raises:
        SafetensorError, OSError: there is none, or it is damaged.
        ValueError: something in it is not as it was written, now or when it is read.
    """
    with safe_open(path, framework="pt") as file:
        yield TensorFile(file)


def _of_header(key: str, header: dict[str, object]) -> str:
    return _digest(json.dumps([key, header]).encode())


def _of_tensor(name: str, tensor: Tensor) -> str:
    value = tensor.detach().cpu().contiguous()
    what = f"{name} {value.dtype} {list(value.shape)} "
    # An empty one has strides that `view` does not take.
    return _digest(what.encode(), value.reshape(-1).view(torch.uint8).numpy() if value.numel() else b"")


def _digest(*parts: object) -> str:
    """64 bits of SHA-256: a guard against accidents, not against somebody who writes both."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)  # type: ignore[arg-type]
    return whole.hexdigest()[:16]
