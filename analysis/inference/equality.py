"""Whether two settings are equal up to a margin: two one-sided t-tests (Schuirmann 1987)."""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Float

from analysis.inference.values import equal

NAME = "two one-sided t-tests"
"""The test where differences have a spread."""

FLIPPED = "one-sided sign flips"
"""The test where all differences are equal."""


def tost(differences: Float[np.ndarray, "... S"], margin: float | np.ndarray) -> Float[np.ndarray, "..."]:
    """p of the claim that the mean lies inside (-margin, margin), of many studies at once; 1 for one seed.

    At most 0.05 exactly where the 90% interval lies inside the margins. Equal differences have no spread for
    a t-test: their p is that of one-sided sign flips instead, 1 / 2^n for n seeds inside the margin.
    """
    count = differences.shape[-1]
    centre = differences.mean(-1)
    if count < 2:
        return np.ones_like(centre)
    error = differences.std(-1, ddof=1) / np.sqrt(count)
    with np.errstate(divide="ignore", invalid="ignore"):
        nearest = (np.asarray(margin) - np.abs(centre)) / error
    flipped = np.where(np.abs(centre) < margin, 0.5**count, 1.0)
    found: np.ndarray = np.where(equal(differences), flipped, scipy.stats.t.sf(nearest, count - 1))
    return found


def name(differences: Float[np.ndarray, "S"]) -> str:
    """The name of the test that `tost` makes of these differences."""
    return FLIPPED if len(differences) > 1 and equal(differences) else NAME


def least_p(differences: Float[np.ndarray, "S"]) -> float:
    """The smallest p that this test can give: that of sign flips; 0 for t-tests, which have none."""
    return 0.5 ** len(differences) if name(differences) == FLIPPED else 0.0
