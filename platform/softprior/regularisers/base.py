"""What a regulariser is: a term of the training loss that depends on the prompt's vectors alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from softprior.priors import Distribution, Prior, PriorSource
from softprior.specs import Spec

Term = Callable[[Float[Tensor, "P H"]], Float[Tensor, ""]]
"""The penalty of one place's vectors, differentiable; keys come as before rotary, as priors see them."""


@dataclass(frozen=True)
class Setting:
    """What a regulariser may look at, for one place.

    Attributes:
        source: the frozen model, seen from the place.
        distribution: the prior's law there.
        initial: the sample the place started from, keys before rotary.
        answers: N, the number of answer tokens in the training split.
    """

    source: PriorSource
    distribution: Distribution
    initial: Float[Tensor, "P H"]
    answers: int


class Regulariser(Spec, ABC):
    """Parameters of a regulariser. The loss is the mean over answer tokens plus weight times the terms.

    The terms of all places are added. They are logged apart from the loss, unweighted factors included,
    so that a curve shows what the optimizer saw.

    Attributes:
        weight: factor on the term.
    """

    weight: Annotated[float, Field(ge=0)] = 1.0

    @abstractmethod
    def term(self, setting: Setting) -> Term:
        """The penalty at one place, before the weight.

        Raises:
            UserError: the prior or the place has not what the penalty needs.
        """

    def check(self, name: str, prior: Prior) -> None:
        """Says before anything runs whether the penalty can go with a prior.

        Raises:
            UserError: the prior cannot carry this penalty.
        """

    def contents(self) -> tuple[str, ...]:
        """Fingerprints of what it reads from files, as of priors."""
        return ()
