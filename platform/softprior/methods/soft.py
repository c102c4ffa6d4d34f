"""Prompt-tuning (Lester et al. 2021): vectors in front of the input embeddings."""

from __future__ import annotations

from softprior.methods.base import TrainedMethod
from softprior.prompt import Place, Stack


class Soft(TrainedMethod):
    """P vectors prepended to the input embeddings; they travel through every block."""

    def places(self, blocks: int, stack: Stack = "decoder") -> tuple[Place, ...]:  # noqa: ARG002
        return (Place(0, stack=stack),)
