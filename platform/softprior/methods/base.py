"""What a method is: the places that have trained vectors, or a text, or nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, model_serializer

from softprior.errors import UserError
from softprior.inputs.base import Spec
from softprior.prompt import Kind, Place, Placement, Stack


class Method(Spec, ABC):
    """Parameters of a method.

    A method is a value on the seam: it names places and the number of vectors at each. Everything
    that runs the model is the host's.

    Attributes:
        trained: False for baselines; a study then runs them once, without prior, rate and seed.
        kinds: the kinds of its places.
    """

    trained: ClassVar[bool] = True
    kinds: ClassVar[frozenset[Kind]] = frozenset({"residual"})

    @abstractmethod
    def places(self, blocks: int, stack: Stack = "decoder") -> tuple[Place, ...]:
        """The places with trained vectors in a model with this many blocks.

        Args:
            stack: the stack that reads the input: the encoder of an encoder-decoder model.

        Raises:
            UserError: the model lacks the blocks or the stack that the method needs.
        """

    def count(self) -> int:
        """P, the number of vectors at each place."""
        return 0

    def text(self, default: str) -> str:  # noqa: ARG002
        """A text put in front of every input; `default` is the task's own instruction."""
        return ""

    def of_task(self, instruction: str) -> Method:  # noqa: ARG002
        """The method with what it takes from a task written out.

        Args:
            instruction: the task's own.
        """
        return self

    def network(self) -> Reparameterisation | None:
        """The network through which the vectors are trained, if any."""
        return None


class Reparameterisation(Spec):
    """A small network in front of the vectors, as in P-tuning and prefix tuning.

    The vectors of a place are x + W2 tanh(W1 x), row by row, and x, W1 and W2 are trained. W2 starts
    at zero, so that the prompt starts exactly at the prior's sample (Razdaibiedina et al. 2023 add
    the same skip connection).

    Attributes:
        width: units of the hidden layer.
    """

    width: Annotated[int, Field(ge=1)]


class TrainedMethod(Method):
    """A method with trained vectors.

    Attributes:
        tokens: P.
        reparameterisation: trains them through a network; null trains them directly.
    """

    tokens: Annotated[int, Field(ge=1)] = 20
    reparameterisation: Reparameterisation | None = None

    def count(self) -> int:
        return self.tokens

    def network(self) -> Reparameterisation | None:
        return self.reparameterisation


class PlacedMethod(TrainedMethod):
    """A method whose vectors stand in the sequence of tokens.

    Attributes:
        placement: `front` puts them in front of the whole text; `after_bos` behind its
            beginning-of-sequence token, which then sees no prompt. Needs a tokenizer that begins every text
            with this token, and a decoder-only model.
    """

    placement: Placement = "front"

    @model_serializer(mode="wrap")
    def _to_json(self, handler: Callable[[object], dict[str, object]]) -> dict[str, object]:
        """Leaves out the default, so that ids from before the parameter existed stay as they are."""
        return {key: value for key, value in handler(self).items() if (key, value) != ("placement", "front")}

    def placed(self, place: Place) -> Place:
        """A place with the method's placement.

        Raises:
            UserError: it is an encoder's, and the placement is behind a token.
        """
        if place.stack == "encoder" and self.placement != "front":
            raise UserError(
                f"placement: {self.placement} is for decoder-only models, as an encoder's first token sees "
                "the prompt wherever it stands; use the method's placement: front"
            )
        return replace(place, placement=self.placement)


def in_order(blocks: tuple[int, ...]) -> tuple[int, ...]:
    """Blocks in order, each once, so that equal choices are equal trials."""
    return tuple(sorted(set(blocks)))


BlockNumber = Annotated[int, Field(ge=0)]

ChosenBlocks = Annotated[tuple[BlockNumber, ...], Field(min_length=1), AfterValidator(in_order)]
"""One block or more, see `in_order`."""


def chosen_blocks(method: str, chosen: tuple[int, ...], blocks: int, stack: Stack) -> tuple[int, ...]:
    """The blocks of a list, in order, if the model has them all.

    Raises:
        UserError: it does not, or it is an encoder-decoder model.
    """
    if stack == "encoder":
        raise UserError(
            f"the method {method} is for decoder-only models; with an encoder use the method soft"
        )
    missing = [block for block in chosen if block >= blocks]
    if missing:
        raise UserError(
            f"{method}.blocks names block {missing[0]}, but the model has blocks 0 to {blocks - 1}; "
            "leave it out"
        )
    return chosen
