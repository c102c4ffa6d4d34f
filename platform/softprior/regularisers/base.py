"""What a regulariser is: a term of the training loss that depends on the prompt's vectors alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from softprior.inputs.base import Spec
from softprior.priors import Distribution, Outline, Prior, PriorSource

Term = Callable[[Float[Tensor, "P H"]], Float[Tensor, ""]]
"""The penalty of one place's vectors, differentiable; keys come as before rotary, as priors see them."""


@dataclass(frozen=True)
class Setting:
    """What a regulariser may look at, for one place.

    Attributes:
        source: the frozen model, seen from the place.
        distribution: that of the prior there.
        initial: the sample the place started from, keys before rotary.
        answers: N, the number of answer tokens in the training split.
    """

    source: PriorSource
    distribution: Distribution
    initial: Float[Tensor, "P H"]
    answers: int


class Regulariser(Spec, ABC):
    """Parameters of a regulariser. The loss is the mean over answer tokens plus weight times the terms
    (the gradient of that mean is what steps have on average with `normalisation: expected`).

    The terms of all places are added. They are logged apart from the loss, unweighted factors included,
    so that a curve shows what the optimizer saw.

    Attributes:
        weight: factor on the term.
        needs: what a prior must have for it, as after "needs a prior with".
        uses_density: whether it asks the prior for densities.
    """

    needs: ClassVar[str] = "anything"
    uses_density: ClassVar[bool] = False

    weight: Annotated[float, Field(ge=0)] = 1.0

    @abstractmethod
    def term(self, setting: Setting) -> Term:
        """The penalty at one place, before the weight.

        Raises:
            UserError: the prior or the place lacks what the penalty needs.
        """

    def suits(self, prior: Prior) -> bool:  # noqa: ARG002
        """Whether a prior has what the penalty `needs`; a study leaves it out for those that do not."""
        return True

    def check_outline(self, outline: Outline) -> None:
        """Refuses before anything is loaded what `term` would refuse at this place, as priors do.

        Raises:
            UserError: the place cannot have this penalty with these parameters.
        """

    def contents(self) -> tuple[str, ...]:
        """Fingerprints of what it reads from files, as for priors."""
        return ()
