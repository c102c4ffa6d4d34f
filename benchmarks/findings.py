"""Type I error, power and coverage of the findings' tests and intervals, on documents of known distribution.

    python -m benchmarks.findings swaps|dips|intervals [TRIALS]

Tokens of a document share a centre that holds `share` of the variance; a strong position effect is the same
in both tasks. Beside each test stands what it replaces: one token of each document at like positions, its
labels permuted over all positions (`one token`) or within the bins that they were matched in (`within bins`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import norm

from softprior.seeding import numpy_generator
from softprior.statistics.documents import (
    bca,
    bootstrap,
    mean_interval,
    one_of_each,
    resampled,
)
from softprior.statistics.gaussian_kernel import gaussian_kernel
from softprior.statistics.points import balanced, position_bins
from softprior.statistics.swaps import Strata, kernel_swaps
from softprior.statistics.unimodality import dip_test, unimodality

LEVEL, PERMUTATIONS, DIMENSION, LENGTH = 0.05, 199, 16, 60
"""p-values up to which a test rejects; permutations of a test; dimensions of states; tokens of a document."""


class Side(NamedTuple):
    """Documents of one task, and their mean number of tokens; `positions` is how strong their effect is."""

    documents: int
    tokens: int
    share: float = 0.3
    positions: float = 0.0


TASKS = {
    "12 x 8, 12 x 8": (Side(12, 8), Side(12, 8)),
    "6 x 10, 6 x 10": (Side(6, 10), Side(6, 10)),
    "40 x 1, 8 x 12, share 0.8": (Side(40, 1, 0.8), Side(8, 12, 0.8)),
    "300 x 1, 24 x 20, positions": (Side(300, 1, 0.3, 3), Side(24, 20, 0.3, 3)),
    "48 x 20, 76 x 12, positions": (Side(48, 20, 0.3, 3), Side(76, 12, 0.3, 3)),
}


def drawn(side: Side, offset: float, rng: np.random.Generator) -> tuple[np.ndarray, Strata]:
    """Vectors, and where they stand; `strata` are positions still."""
    sizes = 1 + rng.poisson(side.tokens - 1, side.documents)
    documents = np.repeat(np.arange(side.documents), sizes)
    centres = rng.standard_normal((side.documents, DIMENSION))
    own = rng.standard_normal((len(documents), DIMENSION))
    vectors = np.sqrt(side.share) * centres[documents] + np.sqrt(1 - side.share) * own
    positions = rng.integers(0, LENGTH, len(documents))
    vectors[:, 0] += side.positions * np.sin(3 * positions / LENGTH)
    vectors[:, 1] += side.positions * positions / LENGTH
    vectors[:, 2] += offset
    return vectors, Strata(documents, positions)


def one_token(
    vectors: list[np.ndarray], where: list[Strata], within: bool, rng: np.random.Generator
) -> float:
    """p of MMD^2 of one token of each document at like positions."""
    own = [one_of_each(side.documents, rng) for side in where]
    bins = position_bins([side.strata[some] for side, some in zip(where, own, strict=True)])
    chosen = balanced(bins, rng)
    points = [v[some][few] for v, some, few in zip(vectors, own, chosen, strict=True)]
    strata = np.concatenate([at[few] for at, few in zip(bins, chosen, strict=True)])
    kernel, _ = gaussian_kernel(np.concatenate(points))
    labels = np.repeat([1.0, -1.0], len(points[0]))
    order = np.arange(len(labels))
    values = []
    for number in range(1 + PERMUTATIONS):
        if number:
            keys = rng.random(len(labels))
            groups = strata if within else np.zeros_like(strata)
            order[np.lexsort((np.arange(len(labels)), groups))] = np.lexsort((keys, groups))
        signs = labels[order]
        values.append(signs @ kernel @ signs)
    return float((np.array(values) >= values[0] - 1e-12).mean())


def swaps(trials: int) -> None:
    """Shares of trials with p up to 0.05."""
    print(
        "| documents x tokens | difference | swaps | one token | one token, within bins |\n"
        "|---|---|---|---|---|"
    )
    for name, sides in TASKS.items():
        for offset in (0.0, 0.3):
            p = []
            for trial in range(trials):
                rng = np.random.default_rng([trial, 7])
                vectors, where = zip(
                    *(drawn(side, offset * i, rng) for i, side in enumerate(sides)), strict=True
                )
                bins = position_bins([side.strata for side in where])
                strata = [Strata(side.documents, at) for side, at in zip(where, bins, strict=True)]
                kernel, _ = gaussian_kernel(np.concatenate(vectors))
                own = kernel_swaps(strata[0], strata[1], kernel, trial, PERMUTATIONS, draws=0).p
                others = [one_token(list(vectors), list(where), within, rng) for within in (False, True)]
                p.append([own, *others])
            shares = (np.array(p) <= LEVEL).mean(0)
            print(f"| {name} | {offset} | {' | '.join(f'{share:.3f}' for share in shares)} |", flush=True)


def dips(trials: int) -> None:
    """Shares of trials with p up to 0.05, of 50 draws combined and of a single draw."""
    print("| documents x tokens, values | 50 draws | one draw |\n|---|---|---|")
    for documents, tokens, share in ((48, 20, 0.3), (48, 20, 0.9), (76, 12, 0.05), (12, 30, 0.3)):
        for kind in ("uniform", "gaussian", "two modes"):
            p = []
            for trial in range(trials):
                rng = np.random.default_rng([trial, 8])
                index = np.repeat(np.arange(documents), tokens)
                own = np.sqrt(share) * rng.standard_normal(documents)[index]
                values = own + np.sqrt(1 - share) * rng.standard_normal(len(index))
                if kind == "uniform":
                    values = norm.cdf(values)
                if kind == "two modes":
                    values = values + 3.5 * rng.integers(0, 2, len(index))
                sample, axis = torch.from_numpy(values)[:, None], torch.ones(1, 1)
                many = float(unimodality(sample, axis, torch.from_numpy(index), trial).p[0])
                chosen = one_of_each(index, numpy_generator(trial, "one"))
                p.append([many, dip_test(sample[chosen, 0])[1]])
            shares = (np.array(p) <= LEVEL).mean(0)
            print(
                f"| {documents} x {tokens}, share {share}, {kind} | {shares[0]:.3f} | {shares[1]:.3f} |",
                flush=True,
            )


def intervals(trials: int) -> None:
    """How often intervals of the mean of documents hold the true mean."""
    print(
        "| values | documents | percentile | BCa | BCa, expanded | studentised |\n|---|---|---|---|---|---|"
    )
    kinds: dict[str, tuple[Callable[[np.random.Generator, int], np.ndarray], float]] = {
        "normal": (lambda rng, n: rng.standard_normal(n), 0.0),
        "exponential": (lambda rng, n: rng.standard_exponential(n), 1.0),
    }
    for kind, (draw, true) in kinds.items():
        for count in (4, 6, 12, 48):
            held = np.zeros(4)
            for trial in range(trials):
                rng = np.random.default_rng([trial, 9])
                values = draw(rng, count)
                means = values @ resampled(count, 1999, rng) / count
                without = [(values.sum() - values) / (count - 1)]

                def mean(weights: np.ndarray, values: np.ndarray = values) -> np.ndarray:
                    weighted: np.ndarray = values @ weights / weights.sum(0)
                    return weighted

                found = [
                    np.quantile(means, [0.025, 0.975]),
                    bca(values.mean(), means, without, expanded=False),
                    bootstrap(mean, np.zeros(count, dtype=np.int64), rng),
                    mean_interval(values, rng),
                ]
                held += [low <= true <= high for low, high in found]
            print(
                f"| {kind} | {count} | {' | '.join(f'{share / trials:.3f}' for share in held)} |", flush=True
            )


if __name__ == "__main__":
    name, trials = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 400
    {"swaps": swaps, "dips": dips, "intervals": intervals}[name](trials)
