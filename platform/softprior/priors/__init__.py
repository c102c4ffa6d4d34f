"""Priors: the distributions that prompt vectors start from. One file each, listed here and in `simple`."""

from softprior.priors.base import Distribution, Outline, Prior, PriorSource
from softprior.priors.by_place import ByPlace
from softprior.priors.mixture import Mixture
from softprior.priors.simple import SIMPLE

PRIORS: dict[str, type[Prior]] = {**SIMPLE, "mixture": Mixture, "by_place": ByPlace}
"""Every prior by the name it has in study files."""

__all__ = ["PRIORS", "Distribution", "Outline", "Prior", "PriorSource"]
