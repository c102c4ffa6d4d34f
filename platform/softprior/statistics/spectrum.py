"""How variance is spread over directions, from moments alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.errors import UserError
from softprior.statistics.moments import Moments


@dataclass(frozen=True)
class Components:
    """Directions of largest variance, largest first.

    Attributes:
        directions: unit vectors. The coordinate of largest magnitude is positive, as scikit-learn's.
        shares: the part of the whole variance along each; nan where there is none.
    """

    directions: Float[Tensor, "K D"]
    shares: Float[Tensor, "K"]


def participation_of(covariance: Float[Tensor, "D D"]) -> float:
    """Effective number of directions: (sum of variances)^2 / sum of their squares, from 1 to D.

    That is trace(S)^2 / trace(S^2), without eigenvalues; nan where nothing varies.
    """
    exact = covariance.double()
    squares = float(exact.flatten().dot(exact.flatten()))
    return float(exact.trace()) ** 2 / squares if squares > 0 else math.nan


def principal_components(moments: Moments, count: int) -> Components:
    """The first `count` eigenvectors of the covariance.

    Raises:
        UserError: `count` is not between 1 and the number of dimensions.
    """
    dimension = len(moments.mean)
    if not 1 <= count <= dimension:
        raise UserError(
            f"vectors of {dimension} dimensions have 1 to {dimension} principal components, got {count}; "
            "ask for a number in between"
        )
    covariance = moments.covariance()
    values, vectors = torch.linalg.eigh(covariance)
    directions = vectors[:, -count:].flip(1).T
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    # Of fewer vectors than dimensions some eigenvalues are zero but for rounding, which may put them below.
    shares = values[-count:].flip(0).clamp(min=0) / covariance.trace()
    return Components((directions * largest.sign()).contiguous(), shares)
