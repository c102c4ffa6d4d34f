"""Embeddings of a written text: prompts that start as an instruction a person would give."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.errors import UserError
from softprior.priors.base import Distribution, Prior, PriorSource


class Instruction(Prior):
    """The text's token embeddings in order, cut off at P tokens or repeated up to P (as PEFT does).

    There is nothing to draw: every seed starts from the same vectors.

    Attributes:
        text: the instruction.
    """

    text: str

    def fit(self, source: PriorSource) -> Distribution:
        ids = source.encode(self.text)
        if len(ids) == 0:
            raise UserError(f"the prior instruction needs a text with at least one token, not '{self.text}'")
        return _Instruction(source.vocabulary(), ids)


class _Instruction(Distribution):
    has_density = False

    def __init__(self, vocabulary: Float[Tensor, "V H"], ids: Int[Tensor, "T"]) -> None:
        self.vectors = vocabulary[ids.to(vocabulary.device)].cpu()

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:  # noqa: ARG002
        repeats = -(-count // len(self.vectors))
        return self.vectors.repeat(repeats, 1)[:count].clone()

    def record(self) -> dict[str, Any]:
        return {"text_tokens": len(self.vectors)}
