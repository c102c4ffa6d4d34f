"""One prior at each place, for methods that have vectors at several."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainSerializer, PlainValidator

from softprior.inputs.components import Table
from softprior.priors.assignment import Assignment
from softprior.priors.base import Distribution, FitKey, Outline, Prior, PriorSource
from softprior.priors.mixture import Mixture
from softprior.priors.simple import SIMPLE
from softprior.prompt import Kind, Place, Shape

COMPONENTS: Table[Prior] = Table(
    Prior,  # type: ignore[type-abstract]
    "priors",
    {**SIMPLE.kinds, "mixture": Mixture},
)
"""What may be used at a place."""

Part = Annotated[Prior, PlainValidator(COMPONENTS.inside), PlainSerializer(COMPONENTS.as_json)]


class ByPlace(Prior):
    """A prior for each place, chosen by block and kind; without this one all places share a prior.

    Attributes:
        default: the prior of places that nothing else names.
        keys, values: the prior of key and of value places.
        blocks: priors of single blocks, which win over the others.
    """

    default: Part
    keys: Part | None = None
    values: Part | None = None
    blocks: dict[Annotated[int, Field(ge=0)], Part] = {}

    def assignment(self) -> Assignment:
        """The same, unfolded."""
        named: dict[Kind, Prior | None] = {"key": self.keys, "value": self.values}
        kinds = {kind: prior for kind, prior in named.items() if prior is not None}
        return Assignment(self.default, kinds, self.blocks)

    def fit(self, source: PriorSource) -> Distribution:
        return self.assignment().at(source.place).fit(source)

    def check_outline(self, outline: Outline) -> None:
        self.assignment().at(outline.place).check_outline(outline)

    def outline_notes(self, outline: Outline) -> tuple[str, ...]:
        return self.assignment().at(outline.place).outline_notes(outline)

    def contents(self) -> tuple[str, ...]:
        return self.assignment().contents()

    def work(self, place: Place, shape: Shape) -> dict[FitKey, float | None]:
        return self.assignment().at(place).work(place, shape)

    def draws(self, place: Place) -> str:
        return self.assignment().at(place).draws(place)

    def kinds(self) -> frozenset[Kind]:
        return self.assignment().can_start()

    def limits(self) -> str:
        return next((prior.limits() for prior in self.assignment().priors if prior.limits()), "")

    def smooth(self) -> bool:
        return all(prior.smooth() for prior in self.assignment().priors)

    def fixed(self) -> bool:
        return all(prior.fixed() for prior in self.assignment().priors)

    def corrections(self, density: bool) -> tuple[str, ...]:
        return self.assignment().corrections(density)
