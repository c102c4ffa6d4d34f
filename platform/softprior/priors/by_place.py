"""One prior at each place, for methods that have vectors at several."""

from __future__ import annotations

from functools import partial
from typing import Annotated, get_args

from pydantic import AfterValidator, Field

from softprior.priors.base import Distribution, Outline, Prior, PriorSource
from softprior.priors.mixture import Mixture
from softprior.priors.nested import checked, component
from softprior.priors.simple import SIMPLE
from softprior.prompt import Kind, Place
from softprior.specs import Entry

COMPONENTS: dict[str, type[Prior]] = {**SIMPLE, "mixture": Mixture}
Part = Annotated[Entry, AfterValidator(partial(checked, COMPONENTS))]


class ByPlace(Prior):
    """Chooses by block and kind; without this prior all places share one.

    Attributes:
        default: the prior of places that nothing else names.
        keys, values: the prior of key and of value places.
        blocks: priors of single blocks, which win over the others.
    """

    default: Part
    keys: Part | None = None
    values: Part | None = None
    blocks: dict[Annotated[int, Field(ge=0)], Part] = {}

    def kinds(self) -> frozenset[Kind]:
        blocks = [component(COMPONENTS, entry).kinds() for entry in self.blocks.values()]
        kinds: tuple[Kind, ...] = get_args(Kind)
        return frozenset(
            kind
            for kind in kinds
            if any(kind in found for found in (component(COMPONENTS, self._by_kind(kind)).kinds(), *blocks))
        )

    def named_blocks(self) -> frozenset[int]:
        return frozenset(self.blocks)

    def named_kinds(self) -> frozenset[Kind]:
        named: dict[Kind, Entry | None] = {"key": self.keys, "value": self.values}
        return frozenset(kind for kind, entry in named.items() if entry is not None)

    def smooth(self) -> bool:
        return all(prior.smooth() for prior in self._priors())

    def fit(self, source: PriorSource) -> Distribution:
        return self.at(source.place).fit(source)

    def check_outline(self, outline: Outline) -> None:
        self.at(outline.place).check_outline(outline)

    def at(self, place: Place) -> Prior:
        return component(COMPONENTS, self.blocks.get(place.block) or self._by_kind(place.kind))

    def draws(self, place: Place) -> str:
        return self.at(place).draws(place)

    def _by_kind(self, kind: Kind) -> Entry:
        return {"key": self.keys, "value": self.values}.get(kind) or self.default

    def contents(self) -> tuple[str, ...]:
        return tuple(part for prior in self._priors() for part in prior.contents())

    def corrections(self, density: bool) -> tuple[str, ...]:
        return tuple(part for prior in self._priors() for part in prior.corrections(density))

    def _priors(self) -> list[Prior]:
        entries = [self.default, self.keys, self.values, *self.blocks.values()]
        return [component(COMPONENTS, entry) for entry in entries if entry is not None]
