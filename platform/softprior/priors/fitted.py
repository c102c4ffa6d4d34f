"""N(mu, Sigma) fitted to the embedding layer's outputs: the cluster the model was pre-trained in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from softprior.priors.base import Distribution, Prior, PriorSource
from softprior.statistics.gaussian import GaussianFit, fit_gaussian
from softprior.statistics.moments import Moments


class Fitted(Prior):
    """A Gaussian with the mean and covariance of the whole vocabulary.

    Attributes:
        shrinkage: `oas` estimates the weight of the scaled identity; a number in [0, 1] fixes it.
        jitter: variance added to every coordinate. The paper's code adds 1e-3, which at SmolLM2's
            spread (variance 0.018) is no rounding matter; hence 0 unless asked for.
    """

    shrinkage: Literal["oas"] | Annotated[float, Field(ge=0, le=1)] = "oas"
    jitter: Annotated[float, Field(ge=0)] = 0.0

    def fit(self, source: PriorSource) -> Distribution:
        vocabulary = source.vocabulary()
        moments = Moments.empty(source.hidden).update(vocabulary)
        weight = None if self.shrinkage == "oas" else self.shrinkage
        return _Fitted(fit_gaussian(moments, weight, self.jitter))


class _Fitted(Distribution):
    def __init__(self, fit: GaussianFit) -> None:
        self.fit = fit

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        return self.fit.gaussian.sample(generator, count).float()

    def log_prob(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N"]:
        return self.fit.gaussian.log_prob(vectors)

    def record(self) -> dict[str, Any]:
        return {"source": "vocabulary", **self.fit.record()}
