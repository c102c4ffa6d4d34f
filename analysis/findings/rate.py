"""Claim 10: divergence from the prior depends on the rate."""

from __future__ import annotations

import numpy as np

from analysis.findings.common import ONE_SEED, SEEDS, Judged, moved
from analysis.findings.evidence import Evidence
from analysis.findings.rules import Direction
from analysis.findings.study import Side, Study
from analysis.findings.values import Claim

CLAIM = Claim(
    name="rate",
    number=10,
    words="Posteriors move farther from the prior at higher rates",
    primary="Slope of the distance moved (mean over vectors and places) on the natural logarithm of the "
    "rate, least squares within each seed.",
    rule="Of each prior: supported if the slope is above zero (corrected p of the sign-flip test at most "
    "0.05 and a 95% interval above zero), contradicted if it is below zero in the same way.",
    quantity="distance for each e-fold of the rate",
)


def evidence(study: Study) -> list[Evidence]:
    """A finding for each cell and prior."""
    found = []
    for cell in study.cells("prior"):
        for name, side in cell.sides.items():
            known = {"where": f"{cell.where} · {name}", "budget": {name: len(side.rates)}}
            slopes, several = _slopes(side)
            if not several:
                reason = "the study has no two rates of one kind (absolute or relative); add one"
                found.append(Evidence(missing=reason, **known))
            elif len(slopes) < SEEDS:
                found.append(Evidence(missing=f"the prior {ONE_SEED}", **known))
            else:
                found.append(Evidence(numbers={"slope": np.array(slopes)}, **known))
    return found


def _slopes(side: Side) -> tuple[list[float], bool]:
    """Slopes by seed over the rates of the kind that has most, and whether there are two of these."""
    kinds: dict[bool, dict[float, dict[int, float]]] = {False: {}, True: {}}
    for runs in side.rates.values():
        for seed, run in runs.items():
            rate, distance = run.record.spec.rate, moved(run)
            if rate is not None and distance is not None:
                kinds[rate.relative].setdefault(rate.value, {})[seed] = distance
    tables = max(kinds.values(), key=len)
    if len(tables) < 2:
        return [], False
    logs = np.log(list(tables))
    seeds = set.intersection(*(set(table) for table in tables.values()))
    return [
        float(np.polyfit(logs, [table[seed] for table in tables.values()], 1)[0]) for seed in sorted(seeds)
    ], True


JUDGED = Judged(CLAIM, Direction(), evidence)
