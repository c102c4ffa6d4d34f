"""Numbers per prior over all tasks of a study, as Agarwal et al. (2021) define them for few runs.

Scores are [seed, task]. Their intervals are in `jackknife`.
"""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Float

Scores = Float[np.ndarray, "... S K"]


def normalised(losses: Scores, nothing: Float[np.ndarray, "K"], best: Float[np.ndarray, "... K"]) -> Scores:
    """Losses as scores: 0 is the loss without a prompt, 1 the best prior's; nan where these are equal."""
    span = nothing - best
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.where(span != 0, (nothing - losses) / span, np.nan)
    return found


def interquartile_mean(scores: Scores) -> Float[np.ndarray, "..."]:
    """The mean of the middle half of all seeds and tasks."""
    flat = scores.reshape(*scores.shape[:-2], -1)
    found: np.ndarray = scipy.stats.trim_mean(flat, 0.25, axis=-1)
    return found


def profile(scores: Scores, thresholds: Float[np.ndarray, "T"]) -> Float[np.ndarray, "... T"]:
    """Share of seeds and tasks whose score is above each threshold."""
    found: np.ndarray = (scores[..., None] > thresholds).mean((-3, -2))
    return found


def improvement(a: Scores, b: Scores) -> Float[np.ndarray, "..."]:
    """Share of seeds in which a scores above b with the same seed: the mean over tasks, ties counting half.

    Agarwal et al. compare each run of a with each of b. Seeds of a study are paired instead, as all priors
    draw the same random numbers with one seed: what seeds share would hide which prior is better.
    """
    found: np.ndarray = ((a > b) + 0.5 * (a == b)).mean((-2, -1))
    return found
