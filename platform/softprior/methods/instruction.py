"""A written instruction in front of the input: what words alone achieve."""

from __future__ import annotations

from typing import ClassVar

from softprior.inputs.base import Text
from softprior.methods.base import Method
from softprior.prompt import Place, Stack


class Instruction(Method):
    """A text in front of every input: the baseline of a person who writes a prompt.

    Attributes:
        written: the text; null takes the task's own instruction. For none at all there is the method none.
    """

    trained: ClassVar[bool] = False
    written: Text | None = None

    def places(self, blocks: int, stack: Stack = "decoder") -> tuple[Place, ...]:  # noqa: ARG002
        return ()

    def of_task(self, instruction: str) -> Method:
        return Instruction(written=self.text(instruction))

    def text(self, default: str) -> str:
        return default if self.written is None else self.written
