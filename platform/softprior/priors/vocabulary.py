"""Vectors of sampled tokens: prompts that start as real, if random, words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from pydantic import model_serializer
from torch import Tensor

from softprior.errors import UserError
from softprior.priors.base import Distribution, Prior, PriorSource
from softprior.prompt import Place


class Vocabulary(Prior):
    """Distinct tokens drawn uniformly from the vocabulary (Lester et al. 2021).

    Attributes:
        pairs: whether a `prefix` has the key and the value of the same token in each block. Without it
            the key of one token goes with the value of another. Without effect at residual places.
    """

    pairs: bool = False

    @model_serializer(mode="wrap")
    def _to_json(self, handler: Callable[[object], dict[str, object]]) -> dict[str, object]:
        """Leaves out the default, so that ids from before the parameter existed stay as they are."""
        return {key: value for key, value in handler(self).items() if (key, value) != ("pairs", False)}

    def draws(self, place: Place) -> str:
        paired = self.pairs and place.kind == "value"
        return super().draws(replace(place, kind="key") if paired else place)

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
