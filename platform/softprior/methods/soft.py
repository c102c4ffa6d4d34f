"""Prompt-tuning (Lester et al. 2021): vectors beside the input embeddings."""

from __future__ import annotations

from softprior.methods.base import PlacedMethod
from softprior.prompt import Place, Stack


class Soft(PlacedMethod):
    """P vectors among the input embeddings; they travel through every block."""

    def places(self, blocks: int, stack: Stack = "decoder") -> tuple[Place, ...]:  # noqa: ARG002
        return (self.placed(Place(0, stack=stack)),)
