"""Divergence from the prior depends on the rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analysis.findings.common import (
    NOTHING,
    ONE_SEED,
    SEEDS,
    BySeed,
    Judged,
    apart,
    by_seed,
    few_seeds,
    moved,
    of_twins,
    slope,
    together,
    twin_ids,
    twinned,
    with_twin,
)
from analysis.findings.evidence import Evidence, Noise
from analysis.findings.rules import Direction
from analysis.findings.study import Cell, Number, Side, Study
from analysis.findings.values import Claim

CLAIM = Claim(
    name="rate",
    number=10,
    words="Posteriors move farther from the prior at higher rates",
    primary="Slope of the distance moved (mean over vectors and places) on the natural logarithm of the "
    "rate, least squares within each seed.",
    rule="For each prior: supported if the slope is above zero (corrected p of the sign-flip test at most "
    "0.05 and a 95% interval above zero), contradicted if it is below zero in the same way.",
    quantity="distance per e-fold of the rate",
    formerly=(
        "Of each prior: supported if the slope is above zero (corrected p of the sign-flip test at most "
        "0.05 and a 95% interval above zero), contradicted if it is below zero in the same way.",
    ),
)


def evidence(study: Study) -> list[Evidence]:
    """A finding for each cell and prior."""
    found = []
    for cell in study.cells("prior"):
        rounding = _noise(study, cell)
        for name, side in cell.sides.items():
            known = Evidence(where=f"{cell.where} · {name}", budget={name: len(side.rates)})
            slopes = _slopes(side, moved)
            if slopes is None:
                reason = "the study has no two rates of one kind (absolute or relative); add a second rate"
                found.append(replace(known, missing=together(reason, few_seeds(cell))))
            elif len(slopes.values) < SEEDS:
                found.append(replace(known, missing=f"the prior {ONE_SEED}"))
            else:
                numbers, trials = {"slope": by_seed(slopes.values)}, {"slope": slopes.trials}
                found.append(replace(known, numbers=numbers, trials=trials, noise=rounding))
    return found


def _noise(study: Study, cell: Cell) -> Noise | None:
    """The noise of the slopes of all priors, over the trials that have twins."""
    differences: list[float] = []
    twins: list[str] = []
    for side in cell.sides.values():
        own, others = (_slopes(side, take(study, moved)) or NOTHING for take in (with_twin, twinned))
        differences += apart(own.values, others.values)
        twins += twin_ids(study, others.trials)
    return of_twins(differences, twins)


def _slopes(side: Side, number: Number) -> BySeed | None:
    """Slopes of a distance by seed, over the rates of the kind that has most; None without two of these."""
    kinds: dict[bool, dict[float, dict[int, float]]] = {False: {}, True: {}}
    ids: dict[bool, list[tuple[int, str]]] = {False: [], True: []}
    for runs in side.rates.values():
        for seed, run in runs.items():
            rate, distance = run.record.spec.rate, number(run)
            if rate is not None and distance is not None:
                kinds[rate.relative].setdefault(rate.value, {})[seed] = distance
                ids[rate.relative].append((seed, run.id))
    kind = max(kinds, key=lambda relative: len(kinds[relative]))
    tables = kinds[kind]
    if len(tables) < 2:
        return None
    logs = np.log(list(tables)).tolist()
    seeds = set.intersection(*(set(table) for table in tables.values()))
    values = {seed: slope(logs, [table[seed] for table in tables.values()]) for seed in sorted(seeds)}
    return BySeed(values, tuple(trial for seed, trial in ids[kind] if seed in seeds))


JUDGED = Judged(CLAIM, Direction(), evidence)
