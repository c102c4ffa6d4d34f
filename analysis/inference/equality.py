"""Whether two settings are equal up to a margin: two one-sided t-tests (Schuirmann 1987)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import stats

NAME = "two one-sided t-tests"


def tost(differences: Float[np.ndarray, "... S"], margin: float | np.ndarray) -> Float[np.ndarray, "..."]:
    """p of the claim that the mean lies inside (-margin, margin), of many studies at once; 1 for one seed.

    At most 0.05 exactly where the 90% interval lies inside the margins.
    """
    count = differences.shape[-1]
    centre = differences.mean(-1)
    if count < 2:
        return np.ones_like(centre)
    error = differences.std(-1, ddof=1) / np.sqrt(count)
    with np.errstate(divide="ignore", invalid="ignore"):
        nearest = (np.asarray(margin) - np.abs(centre)) / error
    # Differences without any spread: they lie inside, outside, or (0 / 0) on the margin itself.
    found: np.ndarray = stats.t.sf(np.nan_to_num(nearest, nan=0.0), count - 1)
    return found
