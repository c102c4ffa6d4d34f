"""Correction of p-values for their number."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def holm(values: Float[np.ndarray, "... T"]) -> Float[np.ndarray, "... T"]:
    """Holm's adjusted p-values (1979) of the T tests of each of many studies, in the same order.

    statsmodels has it for one study at a time; the tests compare the two.
    """
    order = np.argsort(values, axis=-1)
    rising = np.take_along_axis(values, order, axis=-1)
    steps = np.maximum.accumulate(rising * np.arange(values.shape[-1], 0, -1), axis=-1)
    found = np.empty_like(steps)
    np.put_along_axis(found, order, np.minimum(steps, 1.0), axis=-1)
    return found
