"""Vectors of a written text: prompts that start as an instruction a person would give."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.errors import UserError
from softprior.inputs.base import Text
from softprior.priors.base import Distribution, Prior, PriorSource


class Instruction(Prior):
    """The vectors of the text's tokens in order, cut off at P tokens or repeated up to P (as PEFT does).

    At residual places these are embeddings, at key and value places the text's own keys and values.
    There is nothing to draw: every seed starts from the same vectors.

    Attributes:
        text: the instruction.
    """

    text: Text

    def fixed(self) -> bool:
        return True

    def fit(self, source: PriorSource) -> Distribution:
        vectors = source.text(self.text)
        if len(vectors) == 0:
            raise UserError(
                f"the prior instruction needs a text with at least one token, not '{self.text}'; "
                "write another"
            )
        return _Instruction(vectors)


class _Instruction(Distribution):
    support = "points"
    has_density = False

    def __init__(self, vectors: Float[Tensor, "T H"]) -> None:
        self.vectors = vectors.cpu()

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "P H"]:  # noqa: ARG002
        repeats = -(-count // len(self.vectors))
        return self.vectors.repeat(repeats, 1)[:count].clone()

    def record(self) -> dict[str, object]:
        return {"text_tokens": len(self.vectors)}
