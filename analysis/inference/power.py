"""What a study could have seen, and how many seeds would settle a question.

Powers are those of t-tests. Sign flips have nearly the same power, except that they need enough seeds for any
p that small to exist, which is asked for as well.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import cache

import numpy as np
from jaxtyping import Float
from scipy import special

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
    limit = special.stdtrit(count - 1, 1 - level / 2)
    found: np.ndarray = 1 - _below(limit, count - 1, shift) + _below(-limit, count - 1, shift)
    return found


def equality_power(
    effect: float | np.ndarray, spread: float, seeds: int | np.ndarray, margin: float, level: float = LEVEL
) -> Float[np.ndarray, "..."]:
    """Probability that two one-sided t-tests show equality, by the difference of two noncentral t.

    The usual approximation; docs/findings.md has it beside simulated studies.
    """
    count = np.asarray(seeds, dtype=float)
    error = spread / np.sqrt(count)
    limit = special.stdtrit(count - 1, 1 - level)
    upper = _below(-limit, count - 1, (np.abs(effect) - margin) / error)
    lower = _below(limit, count - 1, (np.abs(effect) + margin) / error)
    found: np.ndarray = np.maximum(0.0, upper - lower)
    return found


def detectable(spread: float, seeds: int, level: float = LEVEL) -> float | None:
    """The smallest effect that is found with 80% power; None where no p as small as `level` exists."""
    if seeds < 2 or least_p(seeds) > level:
        return None
    return spread * _detectable(seeds, level)


def more_seeds(effect: float, spread: float, seeds: int, level: float = LEVEL) -> int | None:
    """Seeds to add until this effect at this spread is found with 80% power; None if over `MOST`."""
    if spread == 0 and effect == 0:
        return None

    def enough(count: int) -> bool:
        seen = spread == 0 or bool(power(effect, spread, count, level) >= POWER)
        return seen and least_p(count) <= level

    return _more(enough, seeds)


def more_seeds_for_equality(
    effect: float, spread: float, seeds: int, margin: float, level: float = LEVEL
) -> int | None:
    """Seeds to add until equality at this difference and spread is shown with 80% power."""

    def enough(count: int) -> bool:
        if spread == 0:
            return abs(effect) < margin
        return bool(equality_power(effect, spread, count, margin, level) >= POWER)

    return _more(enough, seeds)


def _more(enough: Callable[[int], bool], seeds: int) -> int | None:
    """The fewest seeds to add that are enough; power rises with their number."""
    counts = range(max(2, seeds + 1), MOST + 1)
    found = bisect_left(counts, True, key=enough)
    return counts[found] - seeds if found < len(counts) else None


@cache
def _detectable(seeds: int, level: float) -> float:
    """In spreads: power rises with the effect, and one of 64 spreads is found at any level in use."""
    low, high = 0.0, 64.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, 1.0, seeds, level) < POWER else (low, middle)
    return high


def _below(limit: np.ndarray, freedom: np.ndarray, shift: np.ndarray) -> Float[np.ndarray, "..."]:
    """The noncentral t distribution.

    scipy gives nan for some shifts near 30. There the normal part hardly matters beside the shift, and what
    is left is the chi-squared one.
    """
    found = special.nctdtr(freedom, shift, limit)
    with np.errstate(divide="ignore", invalid="ignore"):
        chi = special.chdtrc(freedom, freedom * (shift / limit) ** 2)
    same = np.sign(limit) == np.sign(shift)
    rest = np.where(same, np.where(limit > 0, chi, 1 - chi), np.where(limit > 0, 1.0, 0.0))
    result: np.ndarray = np.where(np.isnan(found), rest, found)
    return result
