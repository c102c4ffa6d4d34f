"""How often 95% intervals of a mean over few seeds cover it where numbers are bounded.

`python -m benchmarks.bounded_intervals` prints the table of docs/decisions/0042: accuracies of 40 examples
whose true share differs by seed, and losses that are log-normal.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy import special

from analysis.inference.intervals import ends_over_seeds
from softprior.seeding import numpy_generator

SEEDS = (2, 3, 5, 9, 14)
"""Numbers of seeds of a study."""

STUDIES, RESAMPLES, EXAMPLES = 4000, 200, 40
"""Simulated studies per row, bootstrap samples of each, and test examples per seed."""

Ends = tuple[Float[np.ndarray, "M"], Float[np.ndarray, "M"]]


def plain(values: Float[np.ndarray, "M S"]) -> Ends:
    """Student's; cut to the range it covers as often."""
    return ends_over_seeds(values)


def logit(values: Float[np.ndarray, "M S"]) -> Ends:
    """Student's interval of logits, with half an example more on both sides."""
    shares = (values * EXAMPLES + 0.5) / (EXAMPLES + 1)
    low, high = ends_over_seeds(special.logit(shares))
    return special.expit(low), special.expit(high)


def logarithm(values: Float[np.ndarray, "M S"]) -> Ends:
    """Student's interval of logarithms."""
    low, high = ends_over_seeds(np.log(values))
    return np.exp(low), np.exp(high)


def percentile(values: Float[np.ndarray, "M S"]) -> Ends:
    """The percentile bootstrap."""
    generator = numpy_generator(0, "bounded percentiles", values.shape[1])
    rows = generator.integers(0, values.shape[1], (RESAMPLES, values.shape[1]))
    low, high = np.quantile(values[:, rows].mean(-1), [0.025, 0.975], axis=1)
    return low, high


def covered(way: Callable[[np.ndarray], Ends], values: Float[np.ndarray, "M S"], mean: float) -> float:
    """Share of the studies with an interval whose interval contains the mean; equal seeds have none."""
    own = values[np.ptp(values, 1) > 0]
    low, high = way(own)
    return float(((low <= mean) & (mean <= high)).mean())


def main() -> None:
    """Prints the table."""
    names = "Student's, cut | transformed | percentile | no interval"
    print(f"| numbers | seeds | {names} |\n|---|---|---|---|---|---|")
    for seeds in SEEDS:
        generator = numpy_generator(0, "bounded intervals", seeds)
        for mean, spread in ((0.5, 10), (0.9, 10), (0.98, 50)):
            true = generator.beta(mean * spread, (1 - mean) * spread, (STUDIES, seeds))
            told = generator.binomial(EXAMPLES, true) / EXAMPLES
            _row(f"share, mean {mean}", told, mean, logit)
        losses = generator.lognormal(0, 1, (STUDIES, seeds))
        _row("loss, log-normal", losses, float(np.exp(0.5)), logarithm)


def _row(name: str, values: np.ndarray, mean: float, transformed: Callable[[np.ndarray], Ends]) -> None:
    shares = [covered(way, values, mean) for way in (plain, transformed, percentile)]
    lost = float((np.ptp(values, 1) == 0).mean())
    print(f"| {name} | {values.shape[1]} | {' | '.join(f'{s:.1%}' for s in [*shares, lost])} |")


if __name__ == "__main__":
    main()
