"""Between two clusters: every vector on the segment from a draw of one domain to a draw of another."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from softprior.errors import UserError
from softprior.priors.base import Distribution, FitKey, Outline, Prior, PriorSource
from softprior.priors.domain import Domain, FittedDomain, Shrinkage, fit_domain
from softprior.prompt import Place, Shape

NODES = 8
"""Gauss-Legendre nodes of a panel of the integral over the weight."""

WIDTH = 2.0
"""Length of a panel in units of 1 / sqrt(information): a density that knows the weight with information I
is about 1 / sqrt(I) wide as a function of it. Eight nodes for two such widths leave an error of 1e-9."""

LEAST = 16
"""Fewest panels: the information is zero where both domains' spreads change at the same rate."""

RESOLVED = 3.0
"""Effective number of nodes that should carry a vector's integral; where fewer do, panels are cut. A
Gaussian that three equally spaced nodes carry is integrated to 1e-6."""

CUTS = (1, 4, 16)
"""Parts into which panels are cut, in turn, for vectors far off both domains. 300 standard deviations beside
them the last cut still leaves 1e-4 of -log p, as the integrand's mass is then all at one end."""

PANELS = 8192
"""Most panels: seconds of work for twenty vectors of 576 dimensions. Means 9,000 standard deviations apart
take 5,610."""


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

    def work(self, place: Place, shape: Shape) -> dict[FitKey, float | None]:
        return self.first.work(place, shape) | self.second.work(place, shape)

    def contents(self) -> tuple[str, ...]:
        return (*self.first.contents(), *self.second.contents())

    def corrections(self, density: bool) -> tuple[str, ...]:
        return ("interpolation: an integral with panels",) if density and self.low < self.high else ()


class _Interpolation(Distribution):
    def __init__(self, first: FittedDomain, second: FittedDomain, low: float, high: float) -> None:
        self.first, self.second = first, second
        self.low, self.high = low, high
        self._rules: dict[int, _Rule] = {}

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        x = self.first.gaussian.sample(generator, count)
        y = self.second.gaussian.sample(generator, count)
        weight = torch.rand(count, 1, generator=generator, dtype=torch.float64)
        weight = self.low + (self.high - self.low) * weight
        return (weight * x + (1 - weight) * y).float()

    def log_prob(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N"]:
        """The integral over the weight of N(a mu_1 + (1 - a) mu_2, a^2 Sigma_1 + (1 - a)^2 Sigma_2).

        Panels are as long as the domains make them, and shorter where vectors lie so far off both that
        the integrand is narrower still.

        Raises:
            UserError: the domains are so far apart that no affordable number of nodes resolves the integrand.
        """
        axes = self._axes
        x = (vectors.to(axes.basis) - self.second.gaussian.mean) @ axes.basis.T
        for cut in CUTS:
            terms = self._terms(x, self._rule(cut))
            if self.low == self.high or _resolved(terms):
                break
        constant = len(axes.spread) / 2 * math.log(2 * math.pi) + axes.log_det
        return torch.logsumexp(terms, 0) - constant

    def _terms(self, x: Float[Tensor, "N H"], rule: _Rule) -> Float[Tensor, "K N"]:
        """Logarithm of each node's part of the integral, without constants; D operations for each."""
        parts = []
        for a, weight in zip(*rule, strict=True):
            variance = a**2 * self._axes.spread + (1 - a) ** 2
            squares = ((x - a * self._axes.shift) ** 2 / variance).sum(1)
            parts.append(-(squares + variance.log().sum()) / 2 + math.log(weight))
        return torch.stack(parts)

    @cached_property
    def _lengths(self) -> tuple[Float[np.ndarray, "G"], Float[np.ndarray, "G"]]:
        """A grid of weights, and at each the information length from `low` to there."""
        # Finer towards both ends, where a domain of low rank makes the density change fastest.
        grid = self.low + (self.high - self.low) * (1 - np.cos(np.linspace(0, np.pi, PANELS + 1))) / 2
        middle = (grid[1:] + grid[:-1]) / 2
        least = LEAST * WIDTH / (self.high - self.low)
        steps = np.diff(grid) * np.hypot(_information(self._axes, middle), least)
        return grid, np.concatenate([[0.0], np.cumsum(steps)])

    def _rule(self, cut: int) -> _Rule:
        """Panels of equal information length, each cut into `cut` parts."""
        if self.low == self.high:
            return _Rule(np.array([self.low]), np.array([1.0]))
        if cut in self._rules:
            return self._rules[cut]
        grid, lengths = self._lengths
        panels = math.ceil(lengths[-1] / WIDTH)
        if panels > PANELS:
            raise UserError(
                "the density of interpolation is an integral over the weight, and between "
                f"{self.first.facts['source']} and {self.second.facts['source']} it takes {panels:,} panels, "
                f"more than {PANELS:,}, as they lie too many standard deviations apart; give low and high "
                "the same value, raise jitter, or leave out towards_prior"
            )
        edges = np.interp(np.linspace(0, lengths[-1], panels * cut + 1), lengths, grid)
        edges[[0, -1]] = self.low, self.high
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        size = np.diff(edges)[:, None]
        shares = edges[:-1, None] + size * (nodes + 1) / 2
        parts = (size * weights / 2).ravel() / (self.high - self.low)
        return self._rules.setdefault(cut, _Rule(shares.ravel(), parts))

    @cached_property
    def _axes(self) -> _Axes:
        first, second = self.first.gaussian, self.second.gaussian
        half = torch.linalg.solve_triangular(second.factor, first.factor, upper=False)
        spread, turn = torch.linalg.eigh(half @ half.T)
        identity = torch.eye(len(spread), dtype=second.factor.dtype)
        basis = turn.T @ torch.linalg.solve_triangular(second.factor, identity, upper=False)
        shift = basis @ (first.mean - second.mean)
        log_det = float(second.factor.diagonal().log().sum())
        return _Axes(basis, spread.clamp_min(0), shift, log_det)

    def record(self) -> dict[str, object]:
        facts = {f"first_{name}": value for name, value in self.first.facts.items()}
        return facts | {f"second_{name}": value for name, value in self.second.facts.items()}


class _Axes(NamedTuple):
    """Coordinates in which the second covariance is the identity and the first diagonal.

    Attributes:
        basis: rows are the axes.
        spread: diagonal of the first covariance.
        shift: from the second mean to the first.
        log_det: log|Sigma_2| / 2.
    """

    basis: Float[Tensor, "D D"]
    spread: Float[Tensor, "D"]
    shift: Float[Tensor, "D"]
    log_det: float


class _Rule(NamedTuple):
    """Weights of the first domain at which the integrand is taken, and their shares of the integral."""

    shares: Float[np.ndarray, "K"]
    parts: Float[np.ndarray, "K"]


def _resolved(terms: Float[Tensor, "K N"]) -> bool:
    """Whether enough nodes carry each vector's integral."""
    carried = terms.detach().softmax(0).square().sum(0)
    return bool((carried <= 1 / RESOLVED).all())


def _information(axes: _Axes, shares: Float[np.ndarray, "K"]) -> Float[np.ndarray, "K"]:
    """Square root of the Fisher information that a draw has of its weight, at each weight."""
    spread, shift = axes.spread.numpy(), axes.shift.numpy()
    found = []
    for a in shares:
        variance = a**2 * spread + (1 - a) ** 2
        slope = 2 * a * spread - 2 * (1 - a)
        found.append(math.sqrt((shift**2 / variance).sum() + ((slope / variance) ** 2).sum() / 2))
    return np.array(found)
