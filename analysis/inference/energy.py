"""The energy distance between two sets of points (Székely and Rizzo 2013)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist, pdist


def energy_distance(a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "M D"]) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, in units of length, without bias (pairs of different points only).

    Zero on average for two samples of one distribution, so it may be negative.
    """
    return float(2 * cdist(a, b).mean() - pdist(a).mean() - pdist(b).mean())
