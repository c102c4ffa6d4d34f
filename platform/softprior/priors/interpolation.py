"""Between two clusters: every vector on the segment from a draw of one domain to a draw of another."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from softprior.priors.base import Distribution, Outline, Prior, PriorSource
from softprior.priors.domain import Domain, FittedDomain, Shrinkage, fit_domain

NODES = 512
"""Gauss-Legendre nodes of the integral over the weight. As a function of the weight a density in D
dimensions is about 1 / sqrt(D) wide, so this is enough for tens of thousands of dimensions."""


class Interpolation(Shrinkage, Prior):
    """e = a x + (1 - a) y with x and y from two fitted Gaussians and a ~ U[low, high], drawn per vector.

    Attributes:
        first, second: the domains of x and y.
        low, high: range of the weight of the first; equal for a fixed weight.
    """

    first: Domain = Domain(part=(0.0, 0.5))
    second: Domain = Domain(part=(0.5, 1.0))
    low: Annotated[float, Field(ge=0, le=1)] = 0.0
    high: Annotated[float, Field(ge=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Interpolation:
        if self.low > self.high:
            raise ValueError(f"low = {self.low:g} is above high = {self.high:g}; swap them")
        return self

    def smooth(self) -> bool:
        return True

    def fit(self, source: PriorSource) -> Distribution:
        fits = (fit_domain(self.first, self, source), fit_domain(self.second, self, source))
        return _Interpolation(*fits, self.low, self.high)

    def check_outline(self, outline: Outline) -> None:
        self.first.check_outline(outline)
        self.second.check_outline(outline)

    def contents(self) -> tuple[str, ...]:
        return (*self.first.contents(), *self.second.contents())


class _Interpolation(Distribution):
    def __init__(self, first: FittedDomain, second: FittedDomain, low: float, high: float) -> None:
        self.first, self.second = first, second
        self.low, self.high = low, high
        self._axes: tuple[Tensor, Tensor, float] | None = None

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        x = self.first.gaussian.sample(generator, count)
        y = self.second.gaussian.sample(generator, count)
        weight = torch.rand(count, 1, generator=generator, dtype=torch.float64)
        weight = self.low + (self.high - self.low) * weight
        return (weight * x + (1 - weight) * y).float()

    def log_prob(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N"]:
        """The integral over the weight of N(a mu_1 + (1 - a) mu_2, a^2 Sigma_1 + (1 - a)^2 Sigma_2).

        In the coordinates in which both covariances are diagonal each node costs D operations.
        """
        basis, spread, log_det = self._diagonal()
        first, second = self.first.gaussian.mean, self.second.gaussian.mean
        x = (vectors.to(second) - second) @ basis.T
        shift = basis @ (first - second)
        nodes, weights = np.polynomial.legendre.leggauss(NODES if self.low < self.high else 1)
        share = self.low + (self.high - self.low) * (nodes + 1) / 2
        parts = []
        for a, weight in zip(share, weights / 2, strict=True):
            variance = a**2 * spread + (1 - a) ** 2
            squares = ((x - a * shift) ** 2 / variance).sum(1)
            parts.append(-(squares + variance.log().sum()) / 2 + math.log(weight))
        dimension = len(second)
        return torch.logsumexp(torch.stack(parts), 0) - dimension / 2 * math.log(2 * math.pi) - log_det

    def _diagonal(self) -> tuple[Float[Tensor, "D D"], Float[Tensor, "D"], float]:
        """Coordinates in which Sigma_2 is the identity and Sigma_1 diagonal, its diagonal, and log|basis|."""
        if self._axes is None:
            factor = self.second.gaussian.factor
            half = torch.linalg.solve_triangular(factor, self.first.gaussian.factor, upper=False)
            spread, axes = torch.linalg.eigh(half @ half.T)
            inverse = torch.linalg.solve_triangular(
                factor, torch.eye(len(factor), dtype=factor.dtype), upper=False
            )
            self._axes = axes.T @ inverse, spread.clamp_min(0), float(factor.diagonal().log().sum())
        return self._axes

    def record(self) -> dict[str, Any]:
        facts = {f"first_{name}": value for name, value in self.first.facts.items()}
        return facts | {f"second_{name}": value for name, value in self.second.facts.items()}
