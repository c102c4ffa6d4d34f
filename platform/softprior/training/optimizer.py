"""AdamW on the prompt alone: float32 master vectors, a schedule, clipping, and an exact state."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.prompt import Place
from softprior.specs import Rate, TrainingSpec


def schedule(step: int, training: TrainingSpec) -> float:
    """Factor on the rate at a step counted from 0, in [0, 1]."""
    if step < training.warmup:
        return (step + 1) / training.warmup
    along = (step - training.warmup) / max(1, training.steps - training.warmup)
    if training.schedule == "linear":
        return 1 - along
    return (1 + math.cos(math.pi * along)) / 2 if training.schedule == "cosine" else 1.0


def schedule_sum(steps: int, training: TrainingSpec) -> float:
    """Sum of the factors of the first `steps` steps."""
    return sum(schedule(step, training) for step in range(steps))


class PromptOptimizer:
    """The vectors of every place and their AdamW state.

    Attributes:
        vectors: the master copy, float32, on the CPU.
        rates: learning rate of each place at schedule factor 1.
    """

    def __init__(
        self, initial: dict[Place, Float[Tensor, "P H"]], rate: Rate, training: TrainingSpec
    ) -> None:
        """Starts at `initial`; a relative rate is scaled by each place's root mean square there."""
        self.vectors = {place: value.detach().clone().float() for place, value in initial.items()}
        self.rates = {
            place: rate.value * (float(value.double().square().mean().sqrt()) if rate.relative else 1.0)
            for place, value in initial.items()
        }
        self._training = training
        groups = [{"params": [value], "lr": self.rates[place]} for place, value in self.vectors.items()]
        self._adam = torch.optim.AdamW(
            groups,
            betas=training.betas,
            eps=training.epsilon,
            weight_decay=training.weight_decay,
            foreach=False,
        )

    def step(self, step: int, gradient: dict[Place, Float[Tensor, "P H"]]) -> float:
        """One update at a step counted from 0; returns the gradient's norm before clipping."""
        norm = math.sqrt(sum(float(value.double().square().sum()) for value in gradient.values()))
        clip = self._training.clip
        factor = 1.0 if clip is None or norm <= clip else clip / norm
        for group, (place, vectors) in zip(self._adam.param_groups, self.vectors.items(), strict=True):
            vectors.grad = gradient[place].to(vectors) * factor
            group["lr"] = self.rates[place] * schedule(step, self._training)
        self._adam.step()
        return norm

    def state(self) -> dict[str, Tensor]:
        """Tensors that restore the optimizer exactly."""
        tensors = {}
        for place, vectors in self.vectors.items():
            tensors[f"vectors/{place.name}"] = vectors
            for name, value in self._adam.state[vectors].items():
                tensors[f"{name}/{place.name}"] = value
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        for place, vectors in self.vectors.items():
            vectors.copy_(tensors[f"vectors/{place.name}"])
            own = {name: value for name, value in tensors.items() if name.endswith(f"/{place.name}")}
            self._adam.state[vectors] = {
                name.partition("/")[0]: value.clone()
                for name, value in own.items()
                if not name.startswith("vectors/")
            }
