"""A mixture: every vector is drawn from one of several priors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field, PlainSerializer, PlainValidator, model_validator
from torch import Tensor

from softprior.inputs.labels import counted
from softprior.priors.base import Distribution, FitKey, Outline, Prior, PriorSource, Support
from softprior.priors.simple import SIMPLE
from softprior.prompt import Kind, Place, Shape

Part = Annotated[Prior, PlainValidator(SIMPLE.inside), PlainSerializer(SIMPLE.as_json)]
"""A component of a mixture; in study files and in JSON it is an entry."""

VALUE = Place(0, "value")
EXACT = 1e-6
"""How far from 1 weights may sum: decimals that people write are not exact in binary."""


class Mixture(Prior):
    """Each vector is drawn from one of several priors, chosen by weight.

    A mixture of mixtures is a mixture, so components are simple priors.

    Attributes:
        priors: the components, by name with parameters as in a study's `priors`.
        weights: their probabilities, which sum to 1; null weighs all alike.
    """

    priors: Annotated[tuple[Part, ...], Field(min_length=2)]
    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = None

    @model_validator(mode="after")
    def _weighted(self) -> Mixture:
        if self.weights is None:
            return self
        if len(self.weights) != len(self.priors):
            weights, priors = counted(len(self.weights), "weight"), counted(len(self.priors), "prior")
            raise ValueError(f"{weights} for {priors}; give one weight per prior")
        if abs(sum(self.weights) - 1) > EXACT:
            raise ValueError(f"weights sum to {sum(self.weights):g}; they must sum to 1")
        return self

    @model_validator(mode="after")
    def _unpaired(self) -> Mixture:
        if any(prior.draws(VALUE) != VALUE.name for prior in self.priors):
            raise ValueError(
                "has a component with pairs, whose keys and values cannot be drawn apart from those of the "
                "others; remove pairs, or use vocabulary by itself"
            )
        return self

    def kinds(self) -> frozenset[Kind]:
        return frozenset.intersection(*(prior.kinds() for prior in self.priors))

    def limits(self) -> str:
        return next((prior.limits() for prior in self.priors if prior.limits()), "")

    def smooth(self) -> bool:
        return all(prior.smooth() for prior in self.priors)

    def fit(self, source: PriorSource) -> Distribution:
        weights = self.weights or (1 / len(self.priors),) * len(self.priors)
        return _Mixture(
            tuple(SIMPLE.name(prior) for prior in self.priors),
            [prior.fit(source) for prior in self.priors],
            weights,
        )

    def check_outline(self, outline: Outline) -> None:
        for prior in self.priors:
            prior.check_outline(outline)

    def outline_notes(self, outline: Outline) -> tuple[str, ...]:
        return tuple(note for prior in self.priors for note in prior.outline_notes(outline))

    def work(self, place: Place, shape: Shape) -> dict[FitKey, float | None]:
        return {key: cost for prior in self.priors for key, cost in prior.work(place, shape).items()}

    def contents(self) -> tuple[str, ...]:
        return tuple(part for prior in self.priors for part in prior.contents())

    def corrections(self, density: bool) -> tuple[str, ...]:
        return tuple(part for prior in self.priors for part in prior.corrections(density))


class _Mixture(Distribution):
    def __init__(self, names: tuple[str, ...], parts: list[Distribution], weights: tuple[float, ...]) -> None:
        self.names = names
        self.parts = parts
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.has_density = all(part.has_density for part in parts)
        self.support = _union([part.support for part in parts])
        lacking = [name for name, part in zip(names, parts, strict=True) if not part.has_density]
        self.without_density = f"has no density, as its component {', '.join(lacking)} has none"

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        # Every component draws for every vector, so that a vector does not depend on the others' choices.
        draws = torch.stack([part.sample(generator, count) for part in self.parts])
        return draws[chosen, torch.arange(count)]

    def log_prob(self, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N"]:
        if not self.has_density:
            return super().log_prob(vectors)
        parts = [
            part.log_prob(vectors) + math.log(w) for part, w in zip(self.parts, self.weights, strict=True)
        ]
        return torch.logsumexp(torch.stack(parts), 0)

    def warnings(self) -> tuple[str, ...]:
        return tuple(sentence for part in self.parts for sentence in part.warnings())

    def record(self) -> dict[str, object]:
        return {
            f"{i}_{name}": {"weight": float(weight), **part.record()}
            for i, (name, part, weight) in enumerate(zip(self.names, self.parts, self.weights, strict=True))
        }


def _union(supports: Sequence[Support]) -> Support:
    """Where distributions with these supports have mass together."""
    if all(support == "points" for support in supports):
        return "points"
    # Shells may differ in their radii, and one distribution may fill what another keeps clear of.
    bounded = all(support in ("bounded", "shell", "points") for support in supports)
    return "bounded" if bounded else "everywhere"
