"""What a study could have detected, and how many seeds would settle a question.

Powers against zero are those of the sign-flip test under normal differences, simulated. A t-test's are too
high where the level is near the least p that seeds can give, as nearly all signs have to agree then: nine
seeds at 0.05 / 12 find what a t-test finds with 80% power in 67% of studies.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy import special

from analysis.inference.permutation import DRAWS, EXACT, flips, least_p
from analysis.inference.values import LEVEL, POWER
from softprior.seeding import numpy_generator

MOST = 1000
"""Seeds beyond which a question is not worth settling at its present spread."""


SIMULATED = 32
"""Most seeds whose flips are simulated. With more, the power is a t-test's, which it comes near to."""

STUDIES, SUMS = 20_000, 2**23
"""Most simulated studies, and most sums of flipped differences in all of them; at least 800 studies."""


def power(effect: float, spread: float, seeds: int, level: float = LEVEL) -> float:
    """Probability that the two-sided sign-flip test finds an effect, on the side where it lies.

    Args:
        effect: true mean of the differences.
        spread: standard deviation of one seed's difference.
    """
    if seeds < 2 or least_p(seeds) > level:
        return 0.0
    if seeds > SIMULATED:
        return float(t_power(effect, spread, seeds, level))
    return float(np.mean(needed(seeds, level) < abs(effect) / spread))


def t_power(
    effect: float | np.ndarray, spread: float, seeds: int | np.ndarray, level: float = LEVEL
) -> Float[np.ndarray, "..."]:
    """The same of a two-sided paired t-test."""
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
    """The smallest effect that is found with 80% power.

    None where no p as small as `level` exists, and where seeds are equal, which says nothing of their spread.
    """
    if seeds < 2 or spread == 0 or least_p(seeds) > level:
        return None
    if seeds <= SIMULATED:
        return spread * float(np.quantile(needed(seeds, level), POWER))
    low, high = 0.0, 64.0  # power rises with the effect
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if t_power(middle, 1.0, seeds, level) < POWER else (low, middle)
    return spread * high


def fewest_seeds(tests: int, level: float = LEVEL) -> int | None:
    """The fewest seeds with which a sign-flip test can be below a level, corrected as the first of many.

    The number of plans and of findings, which have no `detectable` effect with fewer. None where no number
    is enough.

    Args:
        tests: all that Holm's correction is over.
    """
    counts = range(1, EXACT + 2)  # beyond, flips are drawn, whose smallest p is always the same
    return next((count for count in counts if least_p(count) <= level / tests), None)


def more_seeds(effect: float, spread: float, seeds: int, level: float = LEVEL) -> int | None:
    """Seeds to add until this effect at this spread is found with 80% power; None if over `MOST`."""
    if spread == 0 and effect == 0:
        return None

    def possible(count: int) -> bool:
        seen = spread == 0 or bool(t_power(effect, spread, count, level) >= POWER)
        return seen and least_p(count) <= level

    # Flips need the seeds of a t-test and at most a few more: few numbers of seeds have to be simulated.
    more = _more(possible, seeds)
    while more is not None and spread > 0 and power(effect, spread, seeds + more, level) < POWER:
        more = more + 1 if seeds + more < MOST else None
    return more


def more_seeds_for_equality(
    effect: float, spread: float, seeds: int, margin: float, level: float = LEVEL
) -> int | None:
    """Seeds to add until equality at this difference and spread is shown with 80% power."""

    def enough(count: int) -> bool:
        if spread == 0:  # see `equality.tost`
            return abs(effect) < margin and 0.5**count <= level
        return bool(equality_power(effect, spread, count, margin, level) >= POWER)

    return _more(enough, seeds)


def _more(enough: Callable[[int], bool], seeds: int) -> int | None:
    """The fewest seeds to add that are enough; power rises with their number."""
    counts = range(max(2, seeds + 1), MOST + 1)
    found = bisect_left(counts, True, key=enough)
    return counts[found] - seeds if found < len(counts) else None


@lru_cache(maxsize=256)
def needed(seeds: int, level: float) -> Float[np.ndarray, "M"]:
    """The effect above which the sign-flip test finds it in each of M simulated studies, in spreads.

    A flip reaches the sum of differences z + d if those that it turns, or those that it leaves, sum to zero
    or less: for effects d up to the negative mean of z over them. The test finds d if the share of such flips
    is at most `level`; so one partial sort per study stands for the tests at all effects.
    """
    signs = flips(seeds)
    if seeds <= EXACT:
        signs = signs[:, : signs.shape[1] // 2]  # the others are their opposites
    columns = signs.shape[1]
    turned = (signs < 0).astype(np.float32)
    parts = [-own / np.maximum(1, own.sum(0)) for own in (turned, 1 - turned)]
    allowed = int(level * columns * (1 + 1e-12))
    drawn = simulated_studies(seeds).astype(np.float32)
    found = []
    for own in np.array_split(drawn, len(drawn) // 200):
        limits = np.maximum(own @ parts[0], own @ parts[1])
        limits[:, turned.sum(0) % seeds == 0] = np.inf  # what was observed reaches itself
        found.append(np.partition(limits, columns - 1 - allowed)[:, columns - 1 - allowed])
    return np.concatenate(found)


def simulated_studies(seeds: int) -> Float[np.ndarray, "M S"]:
    """Seeded standard normal differences of M studies: fewer where a test has more flips."""
    flipped = 2 ** (seeds - 1) if seeds <= EXACT else 1 + DRAWS
    studies = min(STUDIES, max(800, SUMS // flipped))
    drawn = numpy_generator(0, "power of sign flips", seeds).normal(size=(studies, seeds))
    # Means are quantiles instead of draws, as most of what studies differ in is their mean.
    means = special.ndtri((np.arange(studies) + 0.5) / studies) / np.sqrt(seeds)
    found: np.ndarray = drawn + means[:, None] - drawn.mean(1, keepdims=True)
    return found


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
