"""Pulls a prompt back to its prior: minus the prior's log-density."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from softprior.priors import Prior
from softprior.regularisers.base import Regulariser, Setting, Term


class TowardsPrior(Regulariser):
    """-log p(vectors) / N, N being the number of answer tokens in the training split.

    With weight 1, `normalisation: expected` and no weight decay the loss is then the mean over N answer
    tokens of the negative log-likelihood and the prior: its minimum is the mode of the posterior in the
    sense of Bayes; other weights give the mode of a tempered posterior. It is left out for priors without
    a finite smooth density.
    """

    needs: ClassVar[str] = "a finite smooth density everywhere (as isotropic, fitted and interpolation have)"
    uses_density: ClassVar[bool] = True

    def suits(self, prior: Prior) -> bool:
        return prior.smooth()

    def term(self, setting: Setting) -> Term:
        def penalty(vectors: Float[Tensor, "P H"]) -> Float[Tensor, ""]:
            return -setting.distribution.log_prob(vectors).sum() / setting.answers

        return penalty
