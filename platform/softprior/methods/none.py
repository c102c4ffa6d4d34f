"""No prompt at all: what the frozen model does by itself."""

from __future__ import annotations

from typing import ClassVar

from softprior.methods.base import Method
from softprior.prompt import Place, Stack


class NoPrompt(Method):
    """No prompt: the model alone, the baseline of every table."""

    trained: ClassVar[bool] = False

    def places(self, blocks: int, stack: Stack = "decoder") -> tuple[Place, ...]:  # noqa: ARG002
        return ()
