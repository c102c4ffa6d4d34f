"""Exact tests for few seeds: the signs of paired differences are flipped.

If two settings do not differ, a seed's difference is as likely as its opposite. The test needs no other
assumption, but with n seeds no p below 2 / 2^n exists, whatever the numbers.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Float, Int8

from softprior.seeding import numpy_generator

EXACT = 14
"""Most seeds for which all 2^n flips are counted; with more, `DRAWS` of them are drawn."""

DRAWS = 9999
"""Number of random flips of signs in a test that does not count them all."""

BLOCK = 256
"""Number of seeds whose signs become numbers of eight bytes at a time; thousands would take gigabytes."""

ROUNDING = 1e-12
"""Relative to the largest sum: equal sums in another order differ by less."""

NAME = "sign flips"

Side = Literal["both", "greater", "less"]


def sign_flip(differences: Float[np.ndarray, "... S"], side: Side = "both") -> Float[np.ndarray, "..."]:
    """p of the mean of paired differences, of many studies at once.

    Args:
        differences: one number per seed, less what is expected of it if there is no effect.
        side: `both`: two-sided; `greater` and `less`: whether the mean is above or below zero.
    """
    if np.isnan(differences).any():
        raise ValueError("a difference is not a number")
    sums = _sums(differences)  # the first column is the observed sum
    observed = sums[..., :1]
    slack = ROUNDING * np.abs(differences).sum(-1, keepdims=True)
    if side == "both":
        reached = np.abs(sums) >= np.abs(observed) - slack
    else:
        sign = 1 if side == "greater" else -1
        reached = sign * sums >= sign * observed - slack
    found: np.ndarray = reached.mean(-1)
    return found


def beyond(differences: Float[np.ndarray, "... S"], margin: float | np.ndarray) -> Float[np.ndarray, "..."]:
    """p of a mean that lies outside (-margin, margin): twice the smaller of two one-sided tests."""
    width = np.asarray(margin)[..., None]
    above, below = sign_flip(differences - width, "greater"), sign_flip(differences + width, "less")
    found: np.ndarray = np.minimum(1.0, 2 * np.minimum(above, below))
    return found


def least_p(seeds: int) -> float:
    """The smallest two-sided p that exists with this number of seeds."""
    return min(1.0, 2.0 / 2**seeds) if seeds <= EXACT else 1.0 / (1 + DRAWS)


def _sums(differences: Float[np.ndarray, "... S"]) -> Float[np.ndarray, "... F"]:
    """Sums of the differences under all flips."""
    signs = flips(differences.shape[-1])
    found: np.ndarray = differences[..., :BLOCK] @ signs[:BLOCK].astype(np.float64)
    for start in range(BLOCK, len(signs), BLOCK):
        block = slice(start, start + BLOCK)
        found += differences[..., block] @ signs[block].astype(np.float64)
    return found


@cache
def flips(count: int) -> Int8[np.ndarray, "S F"]:
    """Signs by column: all of them, or the identity and seeded draws."""
    if count <= EXACT:
        bits = np.arange(2**count) >> np.arange(count)[:, None]
        return (1 - 2 * (bits & 1)).astype(np.int8)
    generator, signs = numpy_generator(0, "sign flips", count), np.ones((count, 1 + DRAWS), np.int8)
    for row in signs:
        row[1:] -= 2 * generator.integers(0, 2, 1 + DRAWS)[1:].astype(np.int8)
    return signs
