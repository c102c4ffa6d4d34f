"""N(mu, Sigma) fitted to real vectors: the cluster the model was pre-trained in, or a task's activations."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.priors.base import Distribution, Prior, PriorSource
from softprior.priors.domain import Domain, FittedDomain, Shrinkage, fit_domain
from softprior.statistics.reference import Reference


class Fitted(Domain, Shrinkage, Prior):
    """A Gaussian with the mean and covariance of the vocabulary, or of activations."""

    def smooth(self) -> bool:
        return True

    def fit(self, source: PriorSource) -> Distribution:
        return FittedGaussian(fit_domain(self, self, source))


class FittedGaussian(Distribution):
    """The distribution of `fitted`; others build on it."""

    def __init__(self, fit: FittedDomain) -> None:
        self.fit = fit

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        return self.fit.gaussian.sample(generator, count).float()

    def log_prob(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N"]:
        return self.fit.gaussian.log_prob(vectors)

    def reference(self) -> Reference:
        return self.fit.reference

    def record(self) -> dict[str, object]:
        return dict(self.fit.facts)
