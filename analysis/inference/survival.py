"""How soon a loss is reached, where some trials never reach it within their budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from lifelines import KaplanMeierFitter
from lifelines.utils import restricted_mean_survival_time

NAME = "stratified log-rank, sign flips"


@dataclass(frozen=True)
class Times:
    """When each seed of one setting reached the loss.

    Attributes:
        times: until it was reached, or until the end of the training.
        reached: whether it was; False is a censored time.
    """

    times: Float[np.ndarray, "... S"]
    reached: Bool[np.ndarray, "... S"]


def scores(a: Times, b: Times) -> Float[np.ndarray, "... S"]:
    """Each seed's part of the log-rank statistic with seeds as strata: observed less expected events of a.

    -1/2 where b is first, +1/2 where a is, 0 where they tie or censoring hides which is: positive where a is
    sooner. The stratified statistic is (sum of scores)^2 / sum of squared scores, chi-squared for many seeds;
    for few, `sign_flip` of the scores is the exact test.
    """
    first_a = a.reached & ((a.times < b.times) | ((a.times == b.times) & ~b.reached))
    first_b = b.reached & ((b.times < a.times) | ((b.times == a.times) & ~a.reached))
    return 0.5 * (first_a.astype(float) - first_b.astype(float))


def restricted(a: Times, horizon: float) -> Float[np.ndarray, "... S"]:
    """Times cut off at a horizon that no seed is censored before."""
    return np.minimum(a.times, horizon)


def restricted_mean(a: Times, horizon: float) -> float:
    """Restricted mean time: the area under the Kaplan-Meier curve up to the horizon."""
    fitter = KaplanMeierFitter().fit(a.times, a.reached)
    return float(restricted_mean_survival_time(fitter, t=horizon))
