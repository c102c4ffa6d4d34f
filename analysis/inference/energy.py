"""The energy distance between two sets of points (Székely and Rizzo 2013)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist, pdist


def energy_distance(a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "M D"]) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, in units of length, without bias (pairs of different points only).

    Zero on average for two samples of one distribution, so it may be negative. Points with the same number
    in both sets are not compared with each other: trials of one seed draw the same random numbers for every
    prior, which brings exactly these pairs together. Without them the mean is right whether draws are shared
    or not.

    Args:
        a, b: at least two points each.
    """
    between = cdist(a, b)
    apart = np.eye(*between.shape) == 0
    return float(2 * between[apart].mean() - pdist(a).mean() - pdist(b).mean())
