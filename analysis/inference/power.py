"""What a study could have seen, and how many seeds would settle a question.

Powers are those of t-tests. Sign flips have nearly the same power, except that they need enough seeds for any
p that small to exist, which is asked for as well.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import stats

from analysis.inference.permutation import least_p
from analysis.inference.values import LEVEL, POWER

MOST = 1000
"""Seeds beyond which a question is not worth settling at its present spread."""


def power(
    effect: float | np.ndarray, spread: float, seeds: int | np.ndarray, level: float = LEVEL
) -> Float[np.ndarray, "..."]:
    """Probability that a two-sided paired t-test finds an effect.

    Args:
        effect: true mean of the differences.
        spread: standard deviation of one seed's difference.
    """
    count = np.asarray(seeds, dtype=float)
    shift = np.abs(effect) / spread * np.sqrt(count)
    limit = stats.t.ppf(1 - level / 2, count - 1)
    found: np.ndarray = stats.nct.sf(limit, count - 1, shift) + stats.nct.cdf(-limit, count - 1, shift)
    return found


def equality_power(
    effect: float | np.ndarray, spread: float, seeds: int | np.ndarray, margin: float, level: float = LEVEL
) -> Float[np.ndarray, "..."]:
    """Probability that two one-sided t-tests show equality, by the difference of two noncentral t.

    The usual approximation, exact to 0.01 where it is above 0.5 (checked by simulation in the tests).
    """
    count = np.asarray(seeds, dtype=float)
    error = spread / np.sqrt(count)
    limit = stats.t.ppf(1 - level, count - 1)
    upper = stats.nct.cdf(-limit, count - 1, (np.abs(effect) - margin) / error)
    lower = stats.nct.cdf(limit, count - 1, (np.abs(effect) + margin) / error)
    found: np.ndarray = np.maximum(0.0, upper - lower)
    return found


def detectable(spread: float, seeds: int, level: float = LEVEL) -> float | None:
    """The smallest effect that is found with 80% power; None where no p as small as `level` exists."""
    if seeds < 2 or least_p(seeds) > level:
        return None
    # Power rises with the effect, and an effect of 64 spreads is found with any level in use.
    low, high = 0.0, 64.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, 1.0, seeds, level) < POWER else (low, middle)
    return spread * high


def more_seeds(effect: float, spread: float, seeds: int, level: float = LEVEL) -> int | None:
    """Seeds to add until this effect at this spread is found with 80% power; None if over `MOST`."""
    counts = np.arange(max(2, seeds + 1), MOST + 1)
    enough = np.array([least_p(int(count)) <= level for count in counts])
    if spread > 0:
        enough &= power(effect, spread, counts, level) >= POWER
    elif effect == 0:
        return None
    return _first(counts, enough, seeds)


def more_seeds_for_equality(
    effect: float, spread: float, seeds: int, margin: float, level: float = LEVEL
) -> int | None:
    """Seeds to add until equality at this difference and spread is shown with 80% power."""
    counts = np.arange(max(2, seeds + 1), MOST + 1)
    if spread == 0:
        return int(counts[0]) - seeds if abs(effect) < margin else None
    return _first(counts, equality_power(effect, spread, counts, margin, level) >= POWER, seeds)


def _first(counts: np.ndarray, enough: np.ndarray, seeds: int) -> int | None:
    found = np.flatnonzero(enough)
    return int(counts[found[0]]) - seeds if len(found) else None
