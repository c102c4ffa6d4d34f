"""Vectors of sampled tokens: prompts that start as real, if random, words."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.errors import UserError
from softprior.priors.base import Distribution, Prior, PriorSource


class Vocabulary(Prior):
    """Distinct tokens drawn uniformly from the vocabulary (Lester et al. 2021)."""

    def fit(self, source: PriorSource) -> Distribution:
        vocabulary = source.vocabulary()
        if source.tokens > len(vocabulary):
            raise UserError(
                f"the prior vocabulary draws distinct tokens: {source.tokens} prompt tokens are more than "
                f"the model's {len(vocabulary)}; use fewer"
            )
        return _Vocabulary(vocabulary)


class _Vocabulary(Distribution):
    support = "points"
    has_density = False

    def __init__(self, vocabulary: Float[Tensor, "V H"]) -> None:
        self.vocabulary = vocabulary

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        chosen = torch.randperm(len(self.vocabulary), generator=generator)[:count]
        return self.vocabulary[chosen.to(self.vocabulary.device)].cpu().clone()
