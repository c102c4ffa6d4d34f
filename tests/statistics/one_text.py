"""Spread and steps of a single text, in float64: what the job computes for all rows at once."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor


def trace(states: Float[Tensor, "T D"]) -> float:
    """The trace of the unbiased covariance of a text's tokens; nan for fewer than two."""
    return float(states.double().var(0, correction=1).sum()) if len(states) > 1 else math.nan


def step(states: Float[Tensor, "T D"]) -> float:
    """Mean Euclidean length of the steps from a token to the next; nan for fewer than two tokens."""
    return float(states.double().diff(dim=0).norm(dim=1).mean()) if len(states) > 1 else math.nan
