"""What a method is: the places that hold trained vectors, or a text, or nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from softprior.prompt import Place
from softprior.specs import Spec


class Method(Spec, ABC):
    """Parameters of a method.

    A method is a value on the seam: it names places and how many vectors stand at each. Everything
    that runs the model is the host's.

    Attributes:
        trained: False for baselines; a study then runs them once, without prior, rate and seed.
    """

    trained: ClassVar[bool] = True

    @abstractmethod
    def places(self, blocks: int) -> tuple[Place, ...]:
        """The places with trained vectors in a model of so many blocks.

        Raises:
            UserError: the model has not the blocks that the method needs.
        """

    def count(self) -> int:
        """P, the number of vectors at each place."""
        return 0

    def text(self, default: str) -> str:  # noqa: ARG002
        """A text put in front of every input; `default` is the task's own instruction."""
        return ""
