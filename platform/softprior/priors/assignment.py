"""Which prior is used at each place of a prompt: one everywhere, or one by kind and block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from softprior.priors.base import Prior
from softprior.prompt import Kind, Place


@dataclass(frozen=True)
class Assignment:
    """The priors of a prompt's places.

    Attributes:
        default: the prior of places that nothing else names.
        kinds: priors of the places of one kind.
        blocks: priors of the places of one block, which win over both.
    """

    default: Prior
    kinds: Mapping[Kind, Prior] = field(default_factory=dict)
    blocks: Mapping[int, Prior] = field(default_factory=dict)

    @property
    def priors(self) -> tuple[Prior, ...]:
        """All of them."""
        return (self.default, *self.kinds.values(), *self.blocks.values())

    def at(self, place: Place) -> Prior:
        """The prior at a place."""
        return self.blocks.get(place.block) or self._of_kind(place.kind)

    def can_start(self) -> frozenset[Kind]:
        """The kinds of places that it can start at some block."""
        kinds: tuple[Kind, ...] = get_args(Kind)
        anywhere = frozenset(kind for prior in self.blocks.values() for kind in prior.kinds())
        return anywhere | frozenset(kind for kind in kinds if kind in self._of_kind(kind).kinds())

    def contents(self) -> tuple[str, ...]:
        """Contents of all priors, see `Prior.contents`."""
        return tuple(part for prior in self.priors for part in prior.contents())

    def corrections(self, density: bool) -> tuple[str, ...]:
        """Corrections of all priors, see `Prior.corrections`."""
        return tuple(part for prior in self.priors for part in prior.corrections(density))

    def _of_kind(self, kind: Kind) -> Prior:
        return self.kinds.get(kind, self.default)
