"""States of text tokens at the sites of a model, kept as tables."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.models.protocol import Where


class States(NamedTuple):
    """The states of real text tokens at a site.

    Attributes:
        vectors: float32, one row per token.
        rows: row of the batch.
        positions: position in the row's text, from 0.
        tokens: token id.
    """

    vectors: Float[Tensor, "N H"]
    rows: Int[Tensor, "N"]
    positions: Int[Tensor, "N"]
    tokens: Int[Tensor, "N"]


class KeptStates:
    """A statistic that keeps every state it is given."""

    def __init__(self) -> None:
        self._parts: dict[str, list[tuple[Tensor, Where]]] = defaultdict(list)

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:
        self._parts[site].append((states.cpu(), Where(*(part.cpu() for part in where))))

    def states(self, site: str) -> States:
        """Those of a site by row and position."""
        vectors = torch.cat([states for states, _ in self._parts[site]])
        rows, positions, tokens = (torch.cat(c) for c in zip(*(w for _, w in self._parts[site]), strict=True))
        order = (rows * (int(positions.max()) + 1) + positions).argsort(stable=True)
        return States(vectors[order], rows[order], positions[order], tokens[order])
