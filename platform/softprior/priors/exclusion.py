"""Around a cluster but not in it: the paper's exclusion prior, and a shell at a chosen radius of the data."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from scipy.special import chdtrc, chdtri
from torch import Tensor

from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.priors.base import Distribution, Prior, PriorSource
from softprior.priors.domain import Domain, FittedDomain, Shrinkage, fit_domain
from softprior.statistics.reference import Reference

CLASSIC = 5.0
"""The paper's c."""

OUTSIDE = 0.8
"""A shell meant to lie outside has at least this share of the data's median distance from the mean. The
median radius of SmolLM2's tokens is 0.95 of a Gaussian's, so a share of 1 would refuse shells just beyond
it."""

BISECTIONS = 60
"""Halvings of an interval of radii: to the last bits of a float64."""


class Exclusion(Domain, Shrinkage, Prior):
    """The paper's distribution around the data, or, with `quantile` or `multiple`, a shell around them.

    The paper draws x from a wider Gaussian N(mu, c_dim Sigma), c_dim = c^(2/D), and accepts it with
    probability max(0, 1 - pdf(x) / pdf_wide(x)); what remains has density proportional to
    max(0, pdf_wide - pdf). It depends on the Mahalanobis radius alone, so the radius is drawn exactly
    from its one-dimensional distribution and the direction uniformly. In high dimension its mean radius
    is only 2% above the Gaussian's, far inside the spread of real tokens; hence the shells.

    Attributes:
        c: ratio of the two Gaussians' normalising constants; nearer to 1 they cancel in float64.
        quantile: all vectors at the radius below which this share of fresh data lies.
        multiple: all vectors at this multiple of fresh data's median radius.
    """

    c: Annotated[float, Field(ge=1.001)] = CLASSIC
    quantile: Annotated[float, Field(ge=0, le=1)] | None = None
    multiple: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one_radius(self) -> Exclusion:
        if self.quantile is not None and self.multiple is not None:
            raise ValueError("quantile and multiple both set the radius; give one of them")
        if self.c != CLASSIC and (self.quantile is not None or self.multiple is not None):
            raise ValueError(
                "c belongs to the paper's distribution and has no effect on a shell; leave it out"
            )
        return self

    def corrections(self, density: bool) -> tuple[str, ...]:  # noqa: ARG002  samples are concerned
        shell = self.quantile is not None or self.multiple is not None
        return ("exclusion: shells among held-out radii",) if shell else ()

    def fit(self, source: PriorSource) -> Distribution:
        fit = fit_domain(self, self, source)
        radii = fit.reference.radii
        if self.quantile is not None:
            return self._shell(fit, float(radii.quantile(self.quantile)), self.quantile > 1 / 2)
        if self.multiple is not None:
            return self._shell(fit, self.multiple * float(radii.median()), self.multiple > 1)
        return _Exclusion(fit, self.c)

    def _shell(self, fit: FittedDomain, radius: float, outside: bool) -> _Shell:
        """A shell of one radius.

        Args:
            outside: whether it is meant to lie farther out than half of the data.

        Raises:
            UserError: the radii are not those of fresh data, or the shell is not where it is meant to be.
        """
        facts, shell = fit.facts, _Shell(fit, radius)
        if fit.reference.without != "document":
            raise UserError(
                f"a shell needs radii of held-out documents, and {facts['source']} has too few "
                f"({counted(facts['documents'], 'document')} with {counted(facts['tokens'], 'token')} of "
                f"{facts['dimension']} dimensions), or the store does not say which vectors share one; read "
                "more documents, or keep all tokens of the class (sample in the activations file)"
            )
        if outside and shell.distance < OUTSIDE * facts["median_distance"]:
            raise UserError(
                f"the shell at radius {radius:.3g} would lie inside {facts['source']}, at "
                f"{shell.distance / facts['median_distance']:.2f} of its vectors' median distance from their "
                f"mean: they vary in {facts['effective_rank']:.0f} of {facts['dimension']} dimensions only; "
                "give a domain of more distinct vectors, or set the radius by a larger multiple"
            )
        return shell


class _Radial(Distribution):
    """A distribution whose direction is uniform in coordinates in which the fitted Gaussian is round."""

    def __init__(self, fit: FittedDomain) -> None:
        self.fit = fit
        self.dimension = len(fit.gaussian.mean)

    @abstractmethod
    def radii(self, generator: torch.Generator, count: int) -> Float[Tensor, "P"]:
        """Mahalanobis radii of `count` draws, float64."""

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        gaussian = self.fit.gaussian
        directions = torch.randn(count, self.dimension, generator=generator, dtype=torch.float64)
        directions /= directions.norm(dim=1, keepdim=True)
        scaled = directions * self.radii(generator, count)[:, None]
        return (gaussian.mean + scaled @ gaussian.factor.T).float()

    def reference(self) -> Reference:
        return self.fit.reference


class _Exclusion(_Radial):
    support = "outside"

    def __init__(self, fit: FittedDomain, c: float) -> None:
        super().__init__(fit)
        self.c = c
        self.widening = math.exp(2 / self.dimension * math.log(c))
        # pdf equals pdf_wide at this squared radius; nothing within it is ever accepted.
        self.inner = 2 * math.log(c) / (1 - 1 / self.widening)
        self.acceptance = float(self._above(np.array([self.inner]))[0])

    def _above(self, square: np.ndarray) -> np.ndarray:
        """Mass of pdf_wide - pdf beyond a squared radius of at least `inner`."""
        outer, inner = square / self.widening, square
        beyond: np.ndarray = chdtrc(self.dimension, outer) - chdtrc(self.dimension, inner)
        return beyond

    def radii(self, generator: torch.Generator, count: int) -> Float[Tensor, "P"]:
        share = torch.rand(count, generator=generator, dtype=torch.float64).numpy() * self.acceptance
        low = np.full(count, self.inner)
        # Beyond this the wide Gaussian has less mass than a float64 can tell from none.
        high = np.full(count, self.widening * chdtri(self.dimension, 1e-300))
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            beyond = self._above(middle) > share
            low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
        return torch.from_numpy(np.sqrt((low + high) / 2))

    def log_prob(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N"]:
        narrow = self.fit.gaussian.log_prob(vectors)
        square = self.fit.gaussian.radius(vectors) ** 2
        # log pdf_wide - log pdf, from the radius alone; zero at the inner radius.
        excess = square * (1 - 1 / self.widening) / 2 - math.log(self.c)
        outside = excess > 0
        safe = torch.where(outside, excess, 1.0)
        density = narrow + safe + torch.log(-torch.expm1(-safe)) - math.log(self.acceptance)
        return density.where(outside, -math.inf)

    def record(self) -> dict[str, object]:
        return {**self.fit.facts, "inner_radius": math.sqrt(self.inner), "acceptance": self.acceptance}


class _Shell(_Radial):
    support = "shell"
    has_density = False
    without_density = "samples from a shell of one radius, which has no volume, and has no density"

    def __init__(self, fit: FittedDomain, radius: float) -> None:
        super().__init__(fit)
        self.radius = radius
        self.distance = radius * float(fit.gaussian.factor.square().sum() / self.dimension) ** 0.5
        """Root mean square distance of draws from the mean, Euclidean."""

    def radii(self, generator: torch.Generator, count: int) -> Float[Tensor, "P"]:  # noqa: ARG002
        return torch.full((count,), self.radius, dtype=torch.float64)

    def record(self) -> dict[str, object]:
        return {**self.fit.facts, "radius": self.radius, "distance": self.distance}
