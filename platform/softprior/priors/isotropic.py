"""N(0, scale² I): the usual random initialisation, blind to the model."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from softprior.priors.base import Distribution, Prior, PriorSource


class Isotropic(Prior):
    """Independent normal coordinates around zero.

    Attributes:
        scale: standard deviation of a coordinate (0.02 in the paper; it is not a variance).
    """

    scale: Annotated[float, Field(gt=0, description="standard deviation")] = 0.02

    def smooth(self) -> bool:
        return True

    def fit(self, source: PriorSource) -> Distribution:
        return _Isotropic(self.scale, source.hidden)


class _Isotropic(Distribution):
    def __init__(self, scale: float, hidden: int) -> None:
        self.scale = scale
        self.hidden = hidden

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        return torch.randn(count, self.hidden, generator=generator) * self.scale

    def log_prob(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N"]:
        squares = (vectors.double() / self.scale).square().sum(1)
        return -squares / 2 - self.hidden * math.log(self.scale * math.sqrt(2 * math.pi))
