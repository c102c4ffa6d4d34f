"""Quantiles of norms over a stream, within 1% and exactly mergeable."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from ddsketch import LogarithmicMapping
from ddsketch.ddsketch import BaseDDSketch
from ddsketch.store import DenseStore
from jaxtyping import Float
from torch import Tensor

from softprior.errors import UserError

RELATIVE_ERROR = 0.01
"""Largest relative error of a quantile."""


class NormSketch:
    """Counts of values in bins whose edges grow by 2% (DDSketch; Masson et al. 2019).

    Bins are fixed beforehand, so the same values give the same bins in any order and any split. `ddsketch`
    keeps them and reads quantiles off; its own `add` takes one value at a time, so values are counted by
    bin here first.
    """

    def __init__(self) -> None:
        """No values yet."""
        self._mapping = LogarithmicMapping(RELATIVE_ERROR)
        self._bins = DenseStore()
        self._zeros = 0
        self.min, self.max = math.inf, -math.inf

    @property
    def count(self) -> int:
        """Values seen."""
        return self._zeros + int(self._bins.count)

    def add(self, values: Float[Tensor, "N"]) -> None:
        """N more values, zeros or none among them, on any device.

        Raises:
            UserError: a value is negative or not finite.
        """
        exact = values.detach().to("cpu", torch.float64).numpy()
        if not len(exact):
            return
        low, high = float(exact.min()), float(exact.max())
        if not 0 <= low <= high < math.inf:
            raise UserError(
                f"norms must be finite and not negative, but there are values from {low:g} to {high:g}; "
                "look for overflow in the activations, and load the model in a wider dtype"
            )
        self.min, self.max = min(self.min, low), max(self.max, high)
        # The library, too, counts smaller values as zero.
        positive = exact[exact > self._mapping.min_possible]
        self._zeros += len(exact) - len(positive)
        # `LogarithmicMapping.key`, for all values at once.
        keys = np.ceil(np.log(positive) / math.log(self._mapping.gamma)).astype(np.int64)
        self._count(*np.unique(keys, return_counts=True))

    def merge(self, other: NormSketch) -> None:
        """Adds what the other has seen; the other stays as it is."""
        self._bins.merge(other._bins)
        self._zeros += other._zeros
        self.min, self.max = min(self.min, other.min), max(self.max, other.max)

    def quantile(self, share: float) -> float:
        """The value that `share` of all lie at or below, within 1%; nan for no values.

        It is the data's own value at the rank, rounded down, without interpolation (numpy's
        method "lower"). The quantiles 0 and 1 are exact.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"a quantile's share lies between 0 and 1, got {share}")
        if not self.count:
            return math.nan
        sketch = BaseDDSketch(self._mapping, self._bins, DenseStore(), self._zeros)
        if share in (0, 1):
            return self.max if share else self.min
        value = sketch.get_quantile_value(share)
        assert value is not None  # only an empty sketch has none
        return min(max(float(value), self.min), self.max)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Copies: `PREFIX/bins` (keys of bins that are not empty), their `counts`, `zeros` and `range`."""
        counts = np.array(self._bins.bins, dtype=np.int64)
        filled = np.flatnonzero(counts)
        return {
            f"{prefix}/bins": torch.from_numpy(filled + self._bins.offset),
            f"{prefix}/counts": torch.from_numpy(counts[filled]),
            f"{prefix}/zeros": torch.tensor([self._zeros]),
            f"{prefix}/range": torch.tensor([self.min, self.max], dtype=torch.float64),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str) -> NormSketch:
        """Restores a sketch from what `tensors` gave."""
        result = cls()
        result._count(tensors[f"{prefix}/bins"].numpy(), tensors[f"{prefix}/counts"].numpy())
        result._zeros = int(tensors[f"{prefix}/zeros"])
        result.min, result.max = tensors[f"{prefix}/range"].tolist()
        return result

    def _count(self, keys: np.ndarray, counts: np.ndarray) -> None:
        for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
            self._bins.add(key, count)
