"""Twins: the same training from a start that is moved by as little as rounding might move it.

Two machines round differently, and training amplifies that. What a trial and its twin differ by at the end is
what a number may differ by from one machine to another, and below it an effect says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.inputs.specs import TrialSpec
from softprior.prompt import Place
from softprior.seeding import torch_generator

SHARE = 1e-6
"""Share of each vector's norm by which twins are moved: some ten times the resolution of float32."""


def twins_of(trials: Iterable[TrialSpec], seed: int) -> list[TrialSpec]:
    """The twin of each trial that trains a prompt with this seed; untrained trials have none."""
    return [
        trial.model_copy(update={"twin": SHARE})
        for trial in trials
        if trial.training is not None and trial.seed == seed
    ]


def moved(sample: Float[Tensor, "P D"], share: float, place: Place) -> Float[Tensor, "P D"]:
    """The sample with every vector moved by a share of its norm, at a place always in the same directions.

    A vector of zeros has no norm and is moved by the share itself: it would otherwise be its own twin, whose
    difference of zero would pass for training without any rounding.

    Args:
        sample: keys before rotary, as in `Start.sample`.
    """
    way = torch.randn(sample.shape, generator=torch_generator(0, "twins", place.in_front.name))
    norms = sample.norm(dim=1, keepdim=True)
    sizes = torch.where(norms > 0, norms, torch.ones_like(norms))
    found: Tensor = sample + share * way * sizes / way.norm(dim=1, keepdim=True)
    return found
