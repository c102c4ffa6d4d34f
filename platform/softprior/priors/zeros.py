"""All vectors zero: no information at all, and what PEFT starts a prefix from."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.errors import UserError
from softprior.priors.base import Distribution, Prior, PriorSource
from softprior.prompt import Kind


class Zeros(Prior):
    """Zeros, so every seed starts from the same vectors; only for keys and values of a prefix.

    In the residual stream a vector of zeros stays zero through every block without biases, and each
    norm multiplies its gradient by 1 / sqrt(epsilon): on SmolLM2 it is not a number after 30 blocks.
    """

    def kinds(self) -> frozenset[Kind]:
        return frozenset({"key", "value"})

    def fixed(self) -> bool:
        return True

    def limits(self) -> str:
        return "no gradient comes through the norms of a vector of zeros in the residual stream"

    def fit(self, source: PriorSource) -> Distribution:
        if source.place.kind not in self.kinds():
            raise UserError(
                f"the prior zeros is for the keys and values of a prefix, not for {source.place.name}, as "
                f"{self.limits()}; use isotropic with a small scale"
            )
        return _Zeros(source.hidden)


class _Zeros(Distribution):
    support = "points"
    has_density = False

    def __init__(self, hidden: int) -> None:
        self.hidden = hidden

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:  # noqa: ARG002
        return torch.zeros(count, self.hidden)
