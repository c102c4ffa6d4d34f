"""All vectors zero: no information at all, and PEFT's start of a prefix."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.priors.base import Distribution, Prior, PriorSource


class Zeros(Prior):
    """There is nothing to draw: every seed starts from zero.

    A cut prompt of zeros is made of zeros by the block's norm, and gets no gradient through it but at
    the norm's epsilon; this prior is for prefixes and for `soft`.
    """

    def fit(self, source: PriorSource) -> Distribution:
        return _Zeros(source.hidden)


class _Zeros(Distribution):
    support = "points"
    has_density = False

    def __init__(self, hidden: int) -> None:
        self.hidden = hidden

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:  # noqa: ARG002
        return torch.zeros(count, self.hidden)
