"""Numbers in the text of docs/findings.md, recomputed from what is committed of a published study.

What needs posteriors (`memory`, `collapse`) is in the study's verdicts, see `published`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.inference.components import components
from benchmarks.published import unpacked
from softprior.library.results import Results

SOLVED, STUCK = 0.1, (0.5, 1.2)
"""Nats: below the first a prompt solves the sums, and between the others it stops half way."""

FORGOTTEN = "also/language/loss", "also/language/baseline_loss"


def chosen(trials: pd.DataFrame) -> pd.DataFrame:
    """Those at the rate with the lowest mean validation loss, of rates with most seeds (`Side.chosen`)."""
    rates = trials.groupby("rate").validation_loss.agg(["size", "mean"])
    return trials[trials.rate == rates[rates["size"] == rates["size"].max()]["mean"].idxmin()]


def by_prior(trials: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Method, prior and its trials at the chosen rate, in the study's order."""
    known = trials.dropna(subset=["prior"])
    for (method, prior), own in known.groupby(["method_label", "prior_label"], sort=False):
        yield method, prior, chosen(own)


def phrases(folder: Path) -> list[str]:
    """Parts of sentences on tiny-priors, as docs/findings.md has them."""
    trials = Results(folder).trials
    solved, stuck, between, beyond = split(trials)
    shares = seed_shares(trials, rows(folder), "soft")
    blind, _ = shares.pop("isotropic"), shares.pop("posterior")  # which has solved the task when it starts
    prefix, soft = (forgetting(trials, method) for method in ("prefix", "soft"))
    return [
        f"the {solved + stuck + between + beyond} trials without a head start",
        f"{solved} end below {SOLVED} nats, {stuck} between {STUCK[0]} and {STUCK[1]}, and {between} between"
        + (f", and {beyond} above" if beyond else ""),
        f"seeds make up {min(shares.values()):.0%} to {max(shares.values()):.0%} of the variance",
        f"(`isotropic` {blind:.0%})",
        f"{prefix[0]:.1f} to {prefix[1]:.1f} nats on running text against {soft[0]:.2f} to {soft[1]:.2f}",
    ]


def split(trials: pd.DataFrame) -> tuple[int, int, int, int]:
    """How many trials at the higher rate solve the task, stop half way, end between these, or above them.

    Without those of `posterior`, which have a head start, and of `isotropic` of `prefix`, which hardly train.
    """
    own = trials[(trials.rate == trials.rate.max()) & (trials.prior != "posterior")]
    own = own[~((own.method == "prefix") & (own.prior == "isotropic"))]
    solved, stuck = (own.test_loss < SOLVED).sum(), own.test_loss.between(*STUCK).sum()
    between = own.test_loss.between(SOLVED, STUCK[0], inclusive="left").sum()
    return int(solved), int(stuck), int(between), int((own.test_loss > STUCK[1]).sum())


def rows(folder: Path) -> pd.DataFrame:
    """A row for each trial and test example."""
    with unpacked(folder) as whole:
        return Results(whole).examples


def seed_shares(trials: pd.DataFrame, examples: pd.DataFrame, method: str) -> dict[str, float]:
    """Share of seeds in the variance of one seed's loss on one example, by prior at its chosen rate."""
    found = {}
    own_task = examples[examples.task == trials.task.iloc[0]]
    for name, prior, own in by_prior(trials):
        if name == method:
            rows = own_task[own_task.trial.isin(own.trial)]
            # Contributions to the mean over label tokens, as `inference.intervals.by_group` has them.
            sums = rows.pivot_table(index="trial", columns="example", values="nll").to_numpy()
            sizes = rows.drop_duplicates("example").sort_values("example").tokens.to_numpy()
            mean = sums.sum() / (len(sums) * sizes.sum())
            table = mean + (sums - mean * sizes) * len(sizes) / sizes.sum()
            found[prior] = components(np.asarray(table)).shares()["rows"]
    return found


def forgetting(trials: pd.DataFrame, method: str) -> tuple[float, float]:
    """The lowest and the highest mean forgetting of a method's priors that train, in nats."""
    means = []
    for name, prior, own in by_prior(trials):
        if name == method and (method, prior) != ("prefix", "isotropic"):
            means.append(float((own[FORGOTTEN[0]] - own[FORGOTTEN[1]]).mean()))
    return min(means), max(means)
