"""A multivariate normal by its mean and Cholesky factor: samples, log-density, radii."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.errors import UserError
from softprior.statistics.moments import Moments, oas_shrinkage, shrunk


@dataclass(frozen=True)
class Gaussian:
    """N(mean, factor factor^T), float64.

    Attributes:
        mean: the centre.
        factor: lower Cholesky factor of the covariance.
    """

    mean: Float[Tensor, "D"]
    factor: Float[Tensor, "D D"]

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "N D"]:
        """`count` independent draws."""
        noise = torch.randn(count, len(self.mean), generator=generator, dtype=torch.float64)
        return self.mean + noise @ self.factor.T

    def radius(self, vectors: Float[Tensor, "N D"]) -> Float[Tensor, "N"]:
        """Mahalanobis distance of each vector from the mean."""
        centred = (vectors.to(self.mean) - self.mean).T
        lengths: Tensor = torch.linalg.solve_triangular(self.factor, centred, upper=False).norm(dim=0)
        return lengths

    def log_prob(self, vectors: Float[Tensor, "N D"]) -> Float[Tensor, "N"]:
        """Log-density in nats."""
        log_det = self.factor.diagonal().log().sum()
        constant = len(self.mean) / 2 * math.log(2 * math.pi)
        return -(self.radius(vectors) ** 2) / 2 - log_det - constant


@dataclass(frozen=True)
class GaussianFit:
    """A fitted Gaussian and the facts about its fit.

    Attributes:
        gaussian: the distribution.
        count: vectors it was fitted on.
        shrinkage: weight of the scaled identity.
        jitter: variance added to every coordinate.
        condition: largest over smallest eigenvalue of the covariance used.
    """

    gaussian: Gaussian
    count: int
    shrinkage: float
    jitter: float
    condition: float

    def record(self) -> dict[str, int | float]:
        """The fit's facts, for headers and records."""
        return {
            "tokens": self.count,
            "shrinkage": self.shrinkage,
            "jitter": self.jitter,
            "condition": self.condition,
        }


def fit_gaussian(moments: Moments, shrinkage: float | None = None, jitter: float = 0.0) -> GaussianFit:
    """Fits a Gaussian to moments.

    Args:
        shrinkage: weight of the scaled identity; None takes the OAS estimate.
        jitter: variance added to every coordinate.

    Raises:
        UserError: the covariance used is singular.
    """
    covariance = moments.covariance()
    weight = oas_shrinkage(covariance, moments.count) if shrinkage is None else shrinkage
    used = shrunk(covariance, weight)
    del covariance  # at H = 8192 it takes half a gigabyte
    used.diagonal().add_(jitter)
    values = torch.linalg.eigvalsh(used)
    smallest, largest = float(values[0]), float(values[-1])
    # Below this, eigenvalues are rounding of the largest one and the factor would be noise.
    if smallest <= largest * len(values) * torch.finfo(torch.float64).eps:
        raise UserError(
            f"the covariance of {moments.count} vectors of {len(used)} dimensions is singular with "
            f"shrinkage {weight:g} and jitter {jitter:g}; give more vectors, shrinkage or jitter"
        )
    factor = torch.linalg.cholesky(used)
    return GaussianFit(Gaussian(moments.mean, factor), moments.count, weight, jitter, largest / smallest)
