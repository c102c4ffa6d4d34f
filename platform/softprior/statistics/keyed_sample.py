"""A uniform sample of a stream that does not depend on its order: the rows with the smallest hashes.

A classical reservoir depends on the order in which rows come; a hash of a row's position does not. So
samples of parts merge into the sample of the whole, exactly, and a row met twice counts once.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from softprior.seeding import derive

Keys = Int64[np.ndarray, "N"]


def hash_keys(seed: int, documents: Keys, positions: Keys) -> Keys:
    """64-bit hashes of (seed, document, position), as signed integers whose order is as good as random.

    Args:
        documents: hashes of the documents' names (`softprior.seeding.derive`), one for each row.
        positions: the rows' positions in their documents.
    """
    start = _mix(np.array([derive(seed, "keyed sample")], dtype=np.uint64))
    # Positions are mixed before they enter: neighbours of two documents would otherwise collide in runs.
    key = _mix(_mix(start ^ documents.view(np.uint64)) ^ _mix(positions.view(np.uint64)))
    return key.view(np.int64)


def _mix(words: np.ndarray) -> np.ndarray:
    """One step of splitmix64 (Steele, Lea and Flood 2014): a bijection of 64-bit words."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = words ^ (words >> np.uint64(31))
    return mixed


class KeyedSample:
    """The `size` rows with the smallest keys among all that were seen, each key once.

    Rows with the same key must be the same row. Columns take the memory of `size` rows from the first row
    on; a row that enters later takes the place of one that leaves, so little is copied.
    """

    def __init__(self, size: int) -> None:
        """No rows yet."""
        if size < 1:
            raise ValueError(f"a sample has at least one row, got a size of {size}")
        self.size = size
        self._keys = np.empty(0, dtype=np.int64)  # ascending
        self._places = np.empty(0, dtype=np.int64)  # the row of the columns that belongs to each key
        self._columns: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: Keys, columns: Mapping[str, Tensor]) -> None:
        """N more rows, none among them, on any device; only rows that enter are copied.

        Args:
            keys: hashes of the rows (`hash_keys`).
            columns: by name, tensors with a row for each key; the same names and types in every call.
        """
        if any(len(column) != len(keys) for column in columns.values()):
            raise ValueError(f"every column has a row for each of the {len(keys)} keys: {_forms(columns)}")
        if not self._columns:
            self._columns = {
                name: c.new_empty(self.size, *c.shape[1:], device="cpu") for name, c in columns.items()
            }
        if _forms(columns) != _forms(self._columns):
            raise ValueError(
                f"columns are {_forms(self._columns)} as in the first call, got {_forms(columns)}"
            )
        near = np.flatnonzero(keys < self._keys[-1]) if len(self) == self.size else np.arange(len(keys))
        if not len(near):
            return
        distinct, first = np.unique(keys[near], return_index=True)
        known = np.searchsorted(self._keys, distinct) < np.searchsorted(self._keys, distinct, side="right")
        distinct, rows = distinct[~known], near[first[~known]]

        everything = np.concatenate([self._keys, distinct])
        smallest = np.argsort(everything, kind="stable")[: self.size]
        stay = np.count_nonzero(smallest < len(self))
        enter = len(smallest) - stay  # both are the first of their kind, which are sorted
        free = np.concatenate([self._places[stay:], np.arange(len(self), len(smallest))])
        for name, column in columns.items():
            entering = column[torch.from_numpy(rows[:enter]).to(column.device)]
            self._columns[name][torch.from_numpy(free)] = entering.cpu()
        self._places = np.concatenate([self._places, free])[smallest]
        self._keys = everything[smallest]

    def merge(self, other: KeyedSample) -> None:
        """Adds what the other has seen; the other stays as it is."""
        if other.size != self.size:
            raise ValueError(f"samples of one size merge exactly, got {self.size} and {other.size}")
        if len(other):
            self.add(other._keys, other.columns)

    @property
    def keys(self) -> Keys:
        """The rows' keys, ascending."""
        return self._keys.copy()

    @property
    def columns(self) -> dict[str, Tensor]:
        """Copies of the columns, rows in ascending order of their keys."""
        places = torch.from_numpy(self._places)
        return {name: column[places] for name, column in self._columns.items()}

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Copies: `PREFIX/key` and the columns as `PREFIX/NAME`; the size belongs in the file's header."""
        columns = {"key": torch.from_numpy(self.keys), **self.columns}
        return {f"{prefix}/{name}": column for name, column in columns.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str, size: int) -> KeyedSample:
        """Restores a sample from its size and what `tensors` gave; nothing else may have the prefix."""
        start = f"{prefix}/"
        columns = {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
        result = cls(size)
        result.add(columns.pop("key").numpy(), columns)
        return result


def _forms(columns: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Type and shape of one row of each column."""
    return {name: (column.dtype, tuple(column.shape[1:])) for name, column in columns.items()}
