"""Better posteriors project to more faithful words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil

import numpy as np

from analysis.findings.common import (
    ONE_SEED,
    SEEDS,
    BySeed,
    Judged,
    apart,
    by_seed,
    few_seeds,
    of_twins,
    together,
    why_unprobed,
)
from analysis.findings.evidence import Evidence
from analysis.findings.rules import Direction
from analysis.findings.study import Cell, Run, Study
from analysis.findings.values import Claim
from analysis.inference.values import CORRELATION

NUMBER = "projection"
"""In `Study.numbers`: Jensen-Shannon divergence of outputs under the prompt and under its nearest tokens."""

LEAST = 4
"""Fewest trials of a seed: with fewer, a correlation within priors says nothing."""

CLAIM = Claim(
    name="words",
    number=18,
    words="Better posteriors project to more faithful words",
    primary="Correlation of the test loss with the Jensen-Shannon divergence between the outputs under the "
    "prompt and under its nearest tokens, over a seed's trials less the mean of their prior.",
    rule="Supported if it is above zero (corrected p of the sign-flip test at most 0.05 and a 95% interval "
    "above zero), contradicted if it is below zero in the same way.",
    quantity="correlation",
    possible=CORRELATION,
)


def evidence(study: Study) -> list[Evidence]:
    """A finding for each cell."""
    table = study.numbers.get(NUMBER, {})
    found = []
    for cell in study.cells("prior"):
        known = Evidence(where=cell.where, budget=cell.budget)
        few_rates = _few_rates(cell)
        if not table.keys() & _by_id(cell).keys():
            what = "no posterior was projected to its nearest tokens"
            unprobed = why_unprobed(cell.runs, "projection", what)
            found.append(replace(known, missing=together(unprobed, few_rates, few_seeds(cell))))
            continue
        values = _correlations(cell, table)
        if len(values.values) >= SEEDS:
            twins = {
                trial: twin
                for trial, twin in study.twins.items()
                if twin.loss is not None and twin.id in table and trial in table
            }
            originals = {trial: run for trial, run in _by_id(cell).items() if trial in twins}
            own, others = (_correlations(cell, table, runs) for runs in (originals, twins))
            rounding = of_twins(apart(own.values, others.values), others.trials)
            numbers, trials = {"correlation": by_seed(values.values)}, {"correlation": values.trials}
            found.append(replace(known, numbers=numbers, trials=trials, noise=rounding))
        elif few_rates:
            found.append(replace(known, missing=together(few_rates, few_seeds(cell))))
        else:
            found.append(replace(known, missing=f"the cell {ONE_SEED}"))
    return found


def _few_rates(cell: Cell) -> str:
    """Why a seed has too few trials, and how many rates are enough; empty if it has enough."""
    varied = sum(len(side.rates) for side in cell.sides.values() if len(side.rates) > 1)
    if varied >= LEAST:
        return ""
    enough = max(2, ceil(LEAST / len(cell.sides)))
    return (
        f"a seed needs {LEAST} trials that differ within priors; add rates: {enough} of each prior are enough"
    )


def _by_id(cell: Cell) -> dict[str, Run]:
    return {
        run.id: run for side in cell.sides.values() for runs in side.rates.values() for run in runs.values()
    }


def _correlations(cell: Cell, table: Mapping[str, float], instead: Mapping[str, Run] | None = None) -> BySeed:
    """By seed, over the priors that have two rates at least.

    Args:
        instead: stand in for the trials; those without one are left out.
    """
    points: dict[int, list[np.ndarray]] = {}
    ids: dict[int, list[str]] = {}
    for side in cell.sides.values():
        own: dict[int, list[tuple[float, float]]] = {}
        used: dict[int, list[str]] = {}
        for runs in side.rates.values():
            for seed, trial in runs.items():
                run = trial if instead is None else instead.get(trial.id)
                if run is not None and run.loss is not None and run.id in table:
                    own.setdefault(seed, []).append((run.loss, table[run.id]))
                    used.setdefault(seed, []).append(run.id)
        for seed, pairs in own.items():
            if len(pairs) > 1:
                both = np.array(pairs)
                points.setdefault(seed, []).append(both - both.mean(0))
                ids.setdefault(seed, []).extend(used[seed])
    found = {}
    for seed in sorted(points):
        both = np.concatenate(points[seed])
        if len(both) >= LEAST and (both.std(0) > 0).all():
            found[seed] = float(np.corrcoef(both.T)[0, 1])
    return BySeed(found, tuple(trial for seed in found for trial in ids[seed]))


JUDGED = Judged(CLAIM, Direction(), evidence)
