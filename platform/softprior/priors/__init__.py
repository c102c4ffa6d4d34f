"""Priors: the distributions that prompt vectors start from. One file each, listed here."""

from softprior.priors.base import Distribution, Prior, PriorSource
from softprior.priors.fitted import Fitted
from softprior.priors.instruction import Instruction
from softprior.priors.isotropic import Isotropic
from softprior.priors.vocabulary import Vocabulary
from softprior.priors.xavier import Xavier

PRIORS: dict[str, type[Prior]] = {
    "isotropic": Isotropic,
    "xavier": Xavier,
    "fitted": Fitted,
    "vocabulary": Vocabulary,
    "instruction": Instruction,
}
"""Every prior by the name it has in study files."""

__all__ = ["PRIORS", "Distribution", "Prior", "PriorSource"]
