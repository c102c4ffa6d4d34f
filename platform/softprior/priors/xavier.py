"""Uniform in a cube, after Glorot and Bengio 2010: the paper's second blind prior."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.priors.base import Distribution, Prior, PriorSource


class Xavier(Prior):
    """Independent coordinates, uniform on ±sqrt(6 / (P + H))."""

    def fit(self, source: PriorSource) -> Distribution:
        return _Uniform(math.sqrt(6 / (source.tokens + source.hidden)), source.hidden)


class _Uniform(Distribution):
    support = "bounded"

    def __init__(self, bound: float, hidden: int) -> None:
        self.bound = bound
        self.hidden = hidden

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        return (torch.rand(count, self.hidden, generator=generator) * 2 - 1) * self.bound

    def log_prob(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N"]:
        inside = (vectors.abs() <= self.bound).all(1)
        density = torch.full((len(vectors),), -self.hidden * math.log(2 * self.bound), dtype=torch.float64)
        return density.where(inside.cpu(), -math.inf)

    def record(self) -> dict[str, object]:
        return {"bound": self.bound}
