"""Keeps vectors within the norms of real ones."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from softprior.regularisers.base import Regulariser, Setting, Term

QUANTILE = 0.95
"""Most real vectors are inside."""


class NormBall(Regulariser):
    """Mean of max(0, |x| / r - 1)^2: nothing inside the ball, quadratic outside.

    Attributes:
        quantile: r is this quantile of the norms of the vocabulary's vectors at the place.
        radius: r itself, in place of the quantile.
    """

    quantile: Annotated[float, Field(gt=0, le=1)] = QUANTILE
    radius: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one_radius(self) -> NormBall:
        if self.radius is not None and self.quantile != QUANTILE:
            raise ValueError("quantile and radius both set the ball; give one of them")
        return self

    def term(self, setting: Setting) -> Term:
        radius = self.radius
        if radius is None:
            norms = setting.source.vocabulary().double().norm(dim=1).sort().values
            radius = float(norms[round(self.quantile * (len(norms) - 1))])

        def penalty(vectors: Float[Tensor, "P H"]) -> Float[Tensor, ""]:
            # The norm has no gradient at zero; inside of the ball none is wanted.
            norms = vectors.double().square().sum(1).clamp_min(radius**2).sqrt()
            return torch.square(norms / radius - 1).mean()

        return penalty
