"""How often the rules of findings are wrong: python -m benchmarks.findings_rules [--studies 1000]

Draws the numbers of studies of nine seeds in which a claim is neither true nor false, and judges them; counts
how many intervals contain the true number; and counts how often an effect is found that a study should find
with 80% power. Prints the tables of docs/findings.md. Everything is seeded, so it prints the same again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from typing import get_args

import numpy as np
from scipy import stats

from analysis.findings.evidence import Evidence
from analysis.findings.nulls import MARGIN, NULLS, SEEDS, errors, verdict
from analysis.findings.values import Verdict
from analysis.inference import power
from analysis.inference.intervals import ends_over_seeds, over_seeds_and_groups
from analysis.inference.jackknife import jackknife, of_probability, student
from analysis.inference.values import LEVEL, PerExample
from analysis.overall import improved, scored
from softprior.seeding import numpy_generator

DECIDED = frozenset(get_args(Verdict)) - {"undecided"}


def wrong(studies: int) -> Iterator[str]:
    """The table of wrong verdicts."""
    yield f"| claim | wrong verdict | of {studies:,} studies | 95% interval |"
    yield "|---|---|---|---|"
    for null in NULLS:
        count = errors(null, studies)
        verdicts = "any but undecided" if null.wrong == DECIDED else " or ".join(sorted(null.wrong))
        yield f"| `{null.claim}` | {verdicts} | {_share(count, studies)} |"


def covered(studies: int) -> Iterator[str]:
    """The table of coverage."""
    yield f"| 95% interval | of {studies:,} contain the number | 95% interval of that |"
    yield "|---|---|---|"
    for seeds in (5, 9, 20):
        yield f"| over {seeds} seeds | {_share(round(studies * over(seeds, studies)), studies)} |"
    for method in ("percentile", "BCa"):
        count = round(studies * resampled(studies, method))
        yield f"| over 9 seeds by {method} bootstrap, which is not used | {_share(count, studies)} |"
    for seeds in (3, 5, 9, 20):
        for name, share in zip(("score", "share of better seeds"), overall(seeds, studies), strict=True):
            yield f"| {name} over {seeds} seeds of two tasks | {_share(round(studies * share), studies)} |"
    count = round(studies * crossed(studies))
    yield f"| over 9 seeds and 15 groups of two examples | {_share(count, studies)} |"


def found(studies: int) -> Iterator[str]:
    """The table of power."""
    yield f"| effect | planned | found in {studies:,} studies | 95% interval |"
    yield "|---|---|---|---|"
    detectable = power.detectable(1.0, SEEDS)
    assert detectable is not None
    for share in (0.25, 0.5, 0.75, 1.0, 1.25):
        effect = share * detectable
        planned = power.power(effect, 1.0, SEEDS)
        count = sum(one == "supported" for one in _drawn("rate", studies, effect, 1.0, SEEDS))
        name = f"{share:g} of the detectable one, {SEEDS} seeds"
        yield f"| {name} | {planned:.0%} | {_share(count, studies)} |"
    more = power.more_seeds(0.9, 1.0, 4)
    assert more is not None
    planned = power.power(0.9, 1.0, 4 + more)
    count = sum(one == "supported" for one in _drawn("rate", studies, 0.9, 1.0, 4 + more))
    yield f"| 0.9 spreads, 4 seeds and the {more} asked for | {planned:.0%} | {_share(count, studies)} |"
    spread = 0.8 * MARGIN
    # Two tests of one claim, of equality and of a difference beyond the margin: Holm halves the level.
    more = power.more_seeds_for_equality(0.0, spread, 4, MARGIN, LEVEL / 2)
    assert more is not None
    planned = float(power.equality_power(0.0, spread, 4 + more, MARGIN, LEVEL / 2))
    count = sum(one == "supported" for one in _drawn("cut-or-keep", studies, 0.0, spread, 4 + more))
    name = f"equality at a spread of 0.8 margins, 4 seeds and the {more} asked for"
    yield f"| {name} | {planned:.0%} | {_share(count, studies)} |"


def over(seeds: int, studies: int) -> float:
    """Share of Student's intervals over normal seeds that contain the mean."""
    drawn = numpy_generator(1, "coverage over seeds").normal(0.3, 1, (studies, seeds))
    low, high = ends_over_seeds(drawn)
    return float(((low <= 0.3) & (high >= 0.3)).mean())


def resampled(studies: int, method: str, resamples: int = 1000) -> float:
    """The same of a bootstrap of nine seeds: why Student's intervals are used."""
    drawn = numpy_generator(1, "coverage over seeds").normal(0.3, 1, (studies, SEEDS))
    generator = numpy_generator(5, "bootstrap over seeds")
    inside = []
    for own in np.array_split(drawn, max(1, studies // 100)):
        found = stats.bootstrap(
            (own,), np.mean, axis=-1, vectorized=True, n_resamples=resamples, method=method, rng=generator
        ).confidence_interval
        inside.append((found.low <= 0.3) & (found.high >= 0.3))
    return float(np.concatenate(inside).mean())


def overall(seeds: int, studies: int) -> tuple[float, float]:
    """Shares of intervals of a prior's score and of its share of better seeds that contain the number.

    Three priors on two tasks; half of the variance of a loss is shared by all trials of a seed. The second
    prior is worse than the first by half of the standard deviation of a difference of two seeds.
    """
    generator = numpy_generator(6, "coverage over priors", seeds)
    shared = generator.normal(0, 0.1, (studies, 1, seeds, 2))
    means = np.array([2.0, 2.1, 2.2])[:, None, None]
    losses = means + shared + generator.normal(0, 0.1, (studies, 3, seeds, 2))
    nothing, inside = np.full(2, 4.0), []
    better = float(stats.norm.cdf(-np.sqrt(0.5)))  # of one seed, which both share
    for own in losses:
        score = student(jackknife(partial(scored, own, nothing, 1), seeds))
        found = of_probability(jackknife(partial(improved, own, 1), seeds), seeds * 2)
        inside.append((score.low <= 0.95 <= score.high, found.low <= better <= found.high))
    shares = np.mean(inside, axis=0)
    return float(shares[0]), float(shares[1])


def crossed(studies: int) -> float:
    """Share that contains the mean, with effects of seeds, of groups of two examples, and of their cells."""
    generator = numpy_generator(2, "coverage over seeds and groups")
    groups, inside = [f"g{i // 2}" for i in range(30)], []
    for _ in range(studies):
        values = generator.normal(0, 0.5, (SEEDS, 1)) + np.repeat(generator.normal(0, 1, (1, 15)), 2, axis=1)
        values = values + generator.normal(0, 1, (SEEDS, 30))
        found = over_seeds_and_groups(PerExample(values, np.ones(30), groups, tuple(range(SEEDS))))
        inside.append(found.low <= 0 <= found.high)
    return float(np.mean(inside))


def _drawn(claim: str, studies: int, effect: float, spread: float, seeds: int) -> Iterator[str]:
    """Verdicts of studies with one normal number per seed."""
    for own in numpy_generator(4, "power").normal(effect, spread, (studies, seeds)):
        yield verdict(claim, Evidence(where="here", numbers={"x": own}, margin=MARGIN))


def _share(count: int, studies: int) -> str:
    low, high = stats.binomtest(count, studies).proportion_ci()
    return f"{count / studies:.1%} | {low:.1%} to {high:.1%}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.findings_rules", description=__doc__)
    parser.add_argument("--studies", type=int, default=1000, help="of each kind (1000)")
    chosen = parser.parse_args()
    for table in (wrong, found, covered):
        for line in table(chosen.studies):
            print(line, flush=True)
        print()
