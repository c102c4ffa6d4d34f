"""Back to where the prompt came from: minus the prior's log-density."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from softprior.errors import UserError
from softprior.priors import Prior
from softprior.regularisers.base import Regulariser, Setting, Term


class TowardsPrior(Regulariser):
    """-log p(vectors) / N, N being the number of answer tokens in the training split.

    With weight 1 and no weight decay the loss is then the mean over N answer tokens of the negative
    log-likelihood and the prior: its minimum is the mode of the posterior in the sense of Bayes, and
    any other weight that of a tempered one. Priors without a finite smooth density are refused.
    """

    def check(self, name: str, prior: Prior) -> None:
        if not prior.smooth():
            raise UserError(
                f"the regulariser towards_prior needs a prior with a finite smooth density everywhere, which "
                f"{name} has not; use isotropic, fitted or interpolation, or another regulariser"
            )

    def term(self, setting: Setting) -> Term:
        def penalty(vectors: Float[Tensor, "P H"]) -> Float[Tensor, ""]:
            return -setting.distribution.log_prob(vectors).sum() / setting.answers

        return penalty
