"""A package as somebody else may write it: a prior, a method, a task and a regulariser of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.methods.base import TrainedMethod
from softprior.priors import Distribution, Prior, PriorSource
from softprior.prompt import Place, Stack
from softprior.regularisers.base import Regulariser, Setting, Term
from softprior.tasks.base import SPLITS, Example, Split, Splits, Task, table


class Ring(Prior):
    """Coordinates between 0 and a limit."""

    file: str = "b"
    limit: float = 0.5

    def fit(self, source: PriorSource) -> Distribution:
        return Draws(self.limit, source.hidden)


class Draws(Distribution):
    """What `Ring` draws from."""

    has_density = False

    def __init__(self, limit: float, hidden: int) -> None:
        self.limit, self.hidden = limit, hidden

    def sample(self, generator: torch.Generator, count: int) -> Float[Tensor, "N H"]:
        return self.limit * torch.rand(count, self.hidden, generator=generator)


class Middle(TrainedMethod):
    """Vectors that replace the prompt's in front of the middle block."""

    def places(self, blocks: int, stack: Stack = "decoder") -> tuple[Place, ...]:
        return (Place(0, stack=stack), Place(blocks // 2, after="cut", stack=stack))


class Centred(Regulariser):
    """The squared distance of the mean vector from zero."""

    def term(self, setting: Setting) -> Term:  # noqa: ARG002
        def penalty(vectors: Float[Tensor, "P H"]) -> Float[Tensor, ""]:
            return vectors.double().mean(0).square().mean()

        return penalty


class Vessels(Task):
    """Where something is."""

    headline = "right"
    instruction = "Name the vessel."

    def fingerprint(self) -> str:
        return "vessels-1"

    def positions(self) -> int:
        return 30

    def score(self, prediction: str, answers: Sequence[str]) -> dict[str, float]:
        return {"right": float(prediction.strip() in answers)}

    def splits(self) -> Splits:
        return Splits(**{split: table(examples(split)) for split in SPLITS})


def examples(split: Split) -> list[Example]:
    """The examples of a split, two per group."""
    vessels = ("urn", "jug", "old cup", "round bowl")
    inputs = [f"The {'fine ' * i}{split} things are in a vessel.\nAnswer:" for i in range(4)]
    return [
        Example(f"{split}-{i}", inputs[i], inputs[i - 1], (vessels[i],), f"{split} {i // 2}")
        for i in range(4)
    ]
