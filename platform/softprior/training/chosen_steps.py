"""At which steps a trial validates, and at which it keeps its vectors."""

from __future__ import annotations

import math

import numpy as np


def evenly(steps: int, count: int) -> set[int]:
    """`count` steps at equal distances, the last one included; every step if that is more than there are."""
    count = min(count, steps)
    return {round(steps * k / count) for k in range(1, count + 1)}


def log_spaced(steps: int, count: int) -> set[int]:
    """About `count` steps from 1 on, log-spaced, the last step excluded."""
    # From this many on, neighbours are less than 1 apart, so that every step is chosen.
    count = min(count, 1 + math.ceil(steps * math.log(steps)))
    return {round(step) for step in np.geomspace(1, steps, count + 1)[:-1]} - {steps} if count else set()
