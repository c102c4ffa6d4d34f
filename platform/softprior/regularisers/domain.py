"""Towards or away from a cluster of real vectors."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from softprior.priors.domain import Domain, Shrinkage, fit_domain
from softprior.regularisers.base import Regulariser, Setting, Term

MARGIN = 2.0
"""Twice as far out as draws of the fitted Gaussian are on average."""


class TowardsDomain(Domain, Shrinkage, Regulariser):
    """Mean squared Mahalanobis distance from the domain's mean, over the dimension D.

    Draws of the fitted Gaussian have 1 on average. `away` penalises being nearer than `margin`, in
    units of sqrt(D): mean of max(0, margin - distance / sqrt(D))^2, which has an end, where minus the
    distance would drive the vectors off without one.

    Attributes:
        direction: to the domain or away from it.
        margin: distance beyond which `away` has no effect.
    """

    direction: Literal["towards", "away"] = "towards"
    margin: Annotated[float, Field(gt=0)] = MARGIN

    @model_validator(mode="after")
    def _margin_of_away(self) -> TowardsDomain:
        if self.direction == "towards" and self.margin != MARGIN:
            raise ValueError("margin belongs to direction: away and has no effect here; leave it out")
        return self

    def contents(self) -> tuple[str, ...]:
        return Domain.contents(self)

    def term(self, setting: Setting) -> Term:
        gaussian = fit_domain(self, self, setting.source).gaussian
        scale = len(gaussian.mean) ** 0.5

        def penalty(vectors: Float[Tensor, "P H"]) -> Float[Tensor, ""]:
            distance = gaussian.radius(vectors) / scale
            if self.direction == "towards":
                mean: Tensor = distance.square().mean()
                return mean
            return torch.relu(self.margin - distance).square().mean()

        return penalty
