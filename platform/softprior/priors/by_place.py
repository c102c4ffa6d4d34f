"""One prior at each place, for methods that have vectors at several."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field, field_validator

from softprior.priors.base import Distribution, Prior, PriorSource
from softprior.priors.mixture import Mixture
from softprior.priors.nested import checked, component
from softprior.priors.simple import SIMPLE
from softprior.prompt import Kind
from softprior.specs import Entry

COMPONENTS: dict[str, type[Prior]] = {**SIMPLE, "mixture": Mixture}


class ByPlace(Prior):
    """Chooses by block and kind; without this prior all places share one.

    Attributes:
        default: the prior of places that nothing else names.
        keys, values: the prior of key and of value places.
        blocks: priors of single blocks, which win over the others.
    """

    default: Entry
    keys: Entry | None = None
    values: Entry | None = None
    blocks: dict[Annotated[int, Field(ge=0)], Entry] = {}

    @field_validator("default", "keys", "values")
    @classmethod
    def _known(cls, entry: Entry | None) -> Entry | None:
        return None if entry is None else checked(COMPONENTS, entry)

    @field_validator("blocks")
    @classmethod
    def _all_known(cls, blocks: dict[int, Entry]) -> dict[int, Entry]:
        return {block: checked(COMPONENTS, entry) for block, entry in blocks.items()}

    def kinds(self) -> frozenset[Kind]:
        return frozenset(
            kind
            for kind in get_args(Kind)
            for entries in [[self._by_kind(kind), *self.blocks.values()]]
            if all(kind in component(COMPONENTS, entry).kinds() for entry in entries)
        )

    def named_blocks(self) -> frozenset[int]:
        return frozenset(self.blocks)

    def named_kinds(self) -> frozenset[Kind]:
        named: dict[Kind, Entry | None] = {"key": self.keys, "value": self.values}
        return frozenset(kind for kind, entry in named.items() if entry is not None)

    def smooth(self) -> bool:
        return all(component(COMPONENTS, entry).smooth() for entry in self._entries())

    def fit(self, source: PriorSource) -> Distribution:
        place = source.place
        entry = self.blocks.get(place.block) or self._by_kind(place.kind)
        return component(COMPONENTS, entry).fit(source)

    def _by_kind(self, kind: Kind) -> Entry:
        return {"key": self.keys, "value": self.values}.get(kind) or self.default

    def contents(self) -> tuple[str, ...]:
        return tuple(part for entry in self._entries() for part in component(COMPONENTS, entry).contents())

    def _entries(self) -> list[Entry]:
        entries = [self.default, self.keys, self.values, *self.blocks.values()]
        return [entry for entry in entries if entry is not None]
