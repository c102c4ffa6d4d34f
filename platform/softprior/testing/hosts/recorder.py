"""A statistic that forgets nothing."""

from __future__ import annotations

from collections import defaultdict

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.models.protocol import Where


class Recorder:
    """A statistic that keeps everything it is given, by site."""

    def __init__(self) -> None:
        self.updates: dict[str, list[tuple[Tensor, Where]]] = defaultdict(list)

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:
        self.updates[site].append((states.cpu(), Where(*(part.cpu() for part in where))))

    def by_text(self, site: str) -> tuple[Float[Tensor, "N H"], Where]:
        """All states of a site, sorted by row and then position, whatever chunks they came in."""
        states = torch.cat([states for states, _ in self.updates[site]])
        rows, positions, tokens = (
            torch.cat(parts) for parts in zip(*(w for _, w in self.updates[site]), strict=True)
        )
        order = (rows * (int(positions.max()) + 1) + positions).argsort(stable=True)
        return states[order], Where(rows[order], positions[order], tokens[order])
