"""Prompt-tuning (Lester et al. 2021): vectors in front of the input embeddings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from softprior.methods.base import Method
from softprior.prompt import Place


class Soft(Method):
    """P vectors prepended to the input embeddings; they travel through every block.

    Attributes:
        tokens: P.
    """

    tokens: Annotated[int, Field(ge=1)] = 20

    def places(self, blocks: int) -> tuple[Place, ...]:  # noqa: ARG002
        return (Place(0),)

    def count(self) -> int:
        return self.tokens
