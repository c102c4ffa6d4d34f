"""Priors: the distributions that prompt vectors start from. One file each, listed here and in `simple`."""

from softprior.inputs.components import Table
from softprior.priors.assignment import Assignment
from softprior.priors.base import Distribution, FitKey, Outline, Prior, PriorSource
from softprior.priors.by_place import COMPONENTS, ByPlace

PRIORS: Table[Prior] = Table(
    Prior,  # type: ignore[type-abstract]
    "priors",
    {**COMPONENTS.kinds, "by_place": ByPlace},
)
"""Every prior by the name it has in study files."""


def assignment(prior: Prior) -> Assignment:
    """The priors at the places of a prompt."""
    return prior.assignment() if isinstance(prior, ByPlace) else Assignment(prior)


__all__ = [
    "PRIORS",
    "Assignment",
    "Distribution",
    "FitKey",
    "Outline",
    "Prior",
    "PriorSource",
    "assignment",
]
