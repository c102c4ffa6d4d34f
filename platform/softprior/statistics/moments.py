"""Mean and covariance of a stream of vectors, exactly mergeable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

ROWS = 8192
"""Rows of one block: its products are taken around its own mean, so an offset costs no precision."""


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter (sum of outer products around the mean), float64.

    Attributes:
        count: number of vectors seen.
        mean: their mean.
        scatter: sum over vectors of (x - mean)(x - mean)^T.
    """

    count: int
    mean: Float[Tensor, "D"]
    scatter: Float[Tensor, "D D"]

    @classmethod
    def empty(cls, dimension: int) -> Moments:
        """No vectors yet."""
        zeros = torch.zeros(dimension, dtype=torch.float64)
        return cls(0, zeros, torch.zeros(dimension, dimension, dtype=torch.float64))

    def update(self, vectors: Float[Tensor, "N D"]) -> Moments:
        """With N more vectors, taken block by block."""
        result = self
        for block in vectors.split(ROWS):
            result = result.merge(_of_block(block))
        return result

    def merge(self, other: Moments) -> Moments:
        """Both together (Chan, Golub and LeVeque 1979), in any order and any split."""
        if not self.count or not other.count:
            return other if not self.count else self
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        scatter = torch.outer(delta, delta).mul_(self.count * other.count / count)
        return Moments(count, mean, scatter.add_(self.scatter).add_(other.scatter))

    def covariance(self) -> Float[Tensor, "D D"]:
        """The maximum-likelihood covariance, scatter / count (as scikit-learn's shrinkage takes it)."""
        return self.scatter / self.count


def _of_block(block: Float[Tensor, "N D"]) -> Moments:
    """The moments of one block. A function of its own, so that its copy is gone before the next is made."""
    exact = block.to("cpu", torch.float64, copy=True)
    mean = exact.mean(0)
    exact -= mean
    return Moments(len(exact), mean, exact.T @ exact)


def oas_shrinkage(covariance: Float[Tensor, "D D"], count: int) -> float:
    """Weight of the scaled identity in the oracle approximating shrinkage estimator, in [0, 1].

    From moments alone; the formula is Chen et al. 2010 (eq. 23) as scikit-learn implements it, without
    the terms in 2/D that vanish for large D.
    """
    dimension = len(covariance)
    alpha = float(covariance.flatten().dot(covariance.flatten())) / dimension**2
    mu = float(covariance.trace()) / dimension
    denominator = (count + 1) * (alpha - mu**2 / dimension)
    # Of a scaled identity it is zero but for rounding, which may put it below.
    return 1.0 if denominator <= 0 else min((alpha + mu**2) / denominator, 1.0)


def shrunk(covariance: Float[Tensor, "D D"], weight: float) -> Float[Tensor, "D D"]:
    """(1 - weight) covariance + weight (trace / D) identity."""
    scaled = (1 - weight) * covariance
    scaled.diagonal().add_(weight * covariance.trace() / len(covariance))
    return scaled
