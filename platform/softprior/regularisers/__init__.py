"""Regularisers: terms of the loss on the prompt's vectors alone. One file each, listed here."""

from softprior.inputs.components import Table
from softprior.regularisers.base import Regulariser, Setting, Term
from softprior.regularisers.domain import TowardsDomain
from softprior.regularisers.nearest_token import NearestToken
from softprior.regularisers.norm_ball import NormBall
from softprior.regularisers.spread import Spread
from softprior.regularisers.towards_prior import TowardsPrior

REGULARISERS: Table[Regulariser] = Table(
    Regulariser,  # type: ignore[type-abstract]
    "regularisers",
    {
        "towards_prior": TowardsPrior,
        "domain": TowardsDomain,
        "spread": Spread,
        "nearest_token": NearestToken,
        "norm_ball": NormBall,
    },
)
"""Every regulariser by the name it has in study files."""

__all__ = ["REGULARISERS", "Regulariser", "Setting", "Term"]
