"""Where real vectors are rare: draws around the data that keep their distance from all of it."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from softprior.errors import UserError
from softprior.priors.base import Distribution, Outline, Prior, PriorSource
from softprior.priors.cache import Fit, cached_fit
from softprior.priors.domain import Domain, FittedDomain, Shrinkage, fit_domain, sampled
from softprior.prompt import Place
from softprior.seeding import torch_generator
from softprior.statistics.gaussian import Gaussian
from softprior.statistics.reference import Reference

NEIGHBOURS_AMONG = 4096
"""Vectors of the domain that distances are taken to; a draw then costs milliseconds."""

SAME = 1e-3
"""Distance, over the data's root mean square from their mean, up to which two vectors are one: the same
token in the same context leaves copies that differ by rounding, and a copy is not a neighbour."""

NEAR_ZERO = 1e-2
"""Threshold, over the same root mean square, below which the prior is refused: it would accept every draw."""

TRIALS = 1000
"""Draws of the test that says how often one is accepted."""

RAREST = 0.01
"""Acceptance below which the prior is refused: the search for a sample would take forever."""


class LowDensity(Domain, Shrinkage, Prior):
    """The domain's Gaussian, widened, given that the distance to the k-th nearest vector is large.

    The density of a data set near a point falls with the distance to its k-th neighbour, among vectors
    that are distinct: of those that repeat (answers at `resid.0`), one counts. A draw from
    N(mu, spread^2 Sigma) is accepted if that distance is at least the given quantile of the same
    distance between the data's own vectors. The paper planned this prior and never tried it.

    Attributes:
        neighbours: k.
        quantile: of the data's own k-th neighbour distances.
        spread: factor on the Gaussian's standard deviations. With 1 a draw is seldom as far from the
            data as the data's own outliers are (SmolLM2: never in 1,000); below 1 it looks for gaps inside.
    """

    neighbours: Annotated[int, Field(ge=1, le=100)] = 10
    quantile: Annotated[float, Field(ge=0, le=1)] = 0.9
    spread: Annotated[float, Field(gt=0)] = 1.25

    def fit(self, source: PriorSource) -> Distribution:
        fit = fit_domain(self, self, source)

        def build() -> Fit:
            data = distinct(sampled(self.load(source).sample, NEIGHBOURS_AMONG).float().cpu())
            self._require_neighbours(len(data), source.place)
            own = neighbour_distance(data, data, self.neighbours + 1)  # the nearest is the vector itself
            return Fit({"data": data, "distances": own.sort().values}, {})

        key = {**self.key(source), "neighbours": self.neighbours, "among": "distinct vectors"}
        tensors, _ = cached_fit("neighbours", key, build, self)
        threshold = float(tensors["distances"].quantile(self.quantile))
        size = _root_mean_square(tensors["data"])
        if threshold < NEAR_ZERO * size:
            raise UserError(
                f"low_density keeps a distance of {threshold:.2g} from {self.name(source.place)} "
                f"with quantile = {self.quantile:g} and neighbours = {self.neighbours}, less than "
                f"{NEAR_ZERO:.0%} of their own spread ({size:.2g}), so it would accept every draw; raise the "
                "quantile or neighbours, or use fitted"
            )
        distribution = _LowDensity(fit, tensors["data"], self.neighbours, threshold, self.spread)
        if distribution.acceptance < RAREST:
            raise UserError(
                f"low_density accepts fewer than {RAREST:.0%} of its draws with quantile = {self.quantile:g} "
                f"and spread = {self.spread:g}; lower the quantile or raise the spread"
            )
        return distribution

    def corrections(self, density: bool) -> tuple[str, ...]:  # noqa: ARG002  samples are concerned
        return ("low_density: distances between distinct vectors",)

    def check_outline(self, outline: Outline) -> None:
        Domain.check_outline(self, outline)
        count = self.known_vectors(outline)
        if count is not None:
            self._require_neighbours(count, outline.place)

    def _require_neighbours(self, count: int, place: Place) -> None:
        if count <= self.neighbours:
            raise UserError(
                f"neighbours = {self.neighbours} needs more distinct vectors than the {count} of "
                f"{self.name(place)}; lower it"
            )


def distinct(vectors: Float[Tensor, "N D"]) -> Float[Tensor, "M D"]:
    """The vectors without those that are `SAME` as an earlier one, in their order."""
    size = _root_mean_square(vectors)
    exact = vectors.double() - vectors.double().mean(0)  # so that products do not cancel
    apart = torch.cdist(exact, exact)
    return vectors[~(apart <= SAME * size).tril(-1).any(1)]


def _root_mean_square(vectors: Float[Tensor, "N D"]) -> float:
    """Root mean square distance of the vectors from their mean."""
    exact = vectors.double()
    return float((exact - exact.mean(0)).square().sum(1).mean().sqrt())


def neighbour_distance(
    vectors: Float[Tensor, "N D"], data: Float[Tensor, "M D"], k: int
) -> Float[Tensor, "N"]:
    """Euclidean distance of each vector to its k-th nearest row of the data."""
    centre = data.mean(0)
    return _around_origin(vectors - centre, data - centre, k)


def _around_origin(vectors: Float[Tensor, "N D"], data: Float[Tensor, "M D"], k: int) -> Float[Tensor, "N"]:
    """`neighbour_distance` of data around the origin; elsewhere the products that cdist takes cancel."""
    parts = [torch.cdist(part, data).kthvalue(k).values for part in vectors.split(1024)]
    return torch.cat(parts)


class _LowDensity(Distribution):
    support = "outside"
    has_density = False
    without_density = "is conditioned on the data's gaps, whose mass is unknown, and has no density"

    def __init__(
        self,
        fit: FittedDomain,
        data: Float[Tensor, "M D"],
        neighbours: int,
        threshold: float,
        spread: float,
    ) -> None:
        self.fit = fit
        self.centre = data.mean(0)
        self.centred = data - self.centre
        self.squares = self.centred.square().sum(1)
        self.neighbours = neighbours
        self.threshold = threshold
        self.wide = Gaussian(fit.gaussian.mean, fit.gaussian.factor * spread)
        draws = self.wide.sample(torch_generator(0, "low density"), TRIALS).float()
        self.acceptance = float(self._far(draws).double().mean())

    def _far(self, vectors: Float[Tensor, "N D"]) -> Tensor:
        # What cdist does, but with the data's squares taken once: it would copy all data at every draw.
        centred = vectors - self.centre
        own = centred.square().sum(1, keepdim=True)
        squares = torch.addmm(own + self.squares, centred, self.centred.T, alpha=-2)
        return squares.kthvalue(self.neighbours).values.clamp_min(0).sqrt() >= self.threshold

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        kept: list[Tensor] = []
        while sum(map(len, kept)) < count:
            draws = self.wide.sample(generator, max(count, 16)).float()
            kept.append(draws[self._far(draws)])
        return torch.cat(kept)[:count]

    def reference(self) -> Reference:
        return self.fit.reference

    def record(self) -> dict[str, object]:
        return {
            **self.fit.facts,
            "distinct": len(self.centred),
            "threshold": self.threshold,
            "acceptance": self.acceptance,
        }
