"""Pushes the vectors of one place apart."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from softprior.regularisers.base import Regulariser, Setting, Term


class Spread(Regulariser):
    """Mean over pairs of exp(-d^2 / (2 s^2)), d their distance: 1 where all are equal, 0 far apart.

    Attributes:
        scale: s, as a multiple of the root mean square norm of the initial vectors. A start of zeros
            has none, and then s is the scale itself.
    """

    scale: Annotated[float, Field(gt=0, le=1e6)] = 1.0

    def term(self, setting: Setting) -> Term:
        size = float(setting.initial.double().square().sum(1).mean().sqrt()) or 1.0
        width = self.scale * size

        def penalty(vectors: Float[Tensor, "P H"]) -> Float[Tensor, ""]:
            exact = vectors.double()
            first, second = torch.triu_indices(len(exact), len(exact), offset=1)
            if len(first) == 0:
                return exact.sum() * 0.0  # a single vector has nobody to keep away from
            squares = (exact[first] - exact[second]).square().sum(1)
            return torch.exp(-squares / (2 * width**2)).mean()

        return penalty
