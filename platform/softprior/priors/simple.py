"""The priors that are not made of others. One file each, listed here."""

from softprior.inputs.components import Table
from softprior.priors.base import Prior
from softprior.priors.exclusion import Exclusion
from softprior.priors.fitted import Fitted
from softprior.priors.instruction import Instruction
from softprior.priors.interpolation import Interpolation
from softprior.priors.isotropic import Isotropic
from softprior.priors.low_density import LowDensity
from softprior.priors.posterior import PosteriorPrior
from softprior.priors.vae import VAE
from softprior.priors.vocabulary import Vocabulary
from softprior.priors.xavier import Xavier
from softprior.priors.zeros import Zeros

SIMPLE: Table[Prior] = Table(
    Prior,  # type: ignore[type-abstract]
    "priors",
    {
        "zeros": Zeros,
        "isotropic": Isotropic,
        "xavier": Xavier,
        "fitted": Fitted,
        "exclusion": Exclusion,
        "interpolation": Interpolation,
        "low_density": LowDensity,
        "vae": VAE,
        "vocabulary": Vocabulary,
        "instruction": Instruction,
        "posterior": PosteriorPrior,
    },
)
"""By the name they have in study files, also inside of the priors that are made of others."""
