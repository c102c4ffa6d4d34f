"""Keys route and values learn."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from analysis.findings.common import (
    ONE_SEED,
    SEEDS,
    Judged,
    about,
    by_seed,
    few_seeds,
    is_encoder,
    noise,
    together,
)
from analysis.findings.evidence import Evidence
from analysis.findings.rules import Direction
from analysis.findings.study import Run, Study
from analysis.findings.values import Claim
from softprior.prompt import Place

CLAIM = Claim(
    name="routing",
    number=17,
    words="In prefix prompts values move farther than keys",
    primary="Natural logarithm of the ratio of distance moved over reach: mean over the values of all "
    "blocks, divided by that over the keys.",
    rule="For each prior: supported if it is above zero (corrected p of the sign-flip test at most 0.05 "
    "and a 95% interval above zero), contradicted if it is below zero in the same way.",
    quantity="log ratio",
    formerly=(
        "Of each prior: supported if it is above zero (corrected p of the sign-flip test at most 0.05 and"
        " a 95% interval above zero), contradicted if it is below zero in the same way.",
    ),
)


def evidence(study: Study) -> list[Evidence]:
    """A finding for each cell and prior of prompts with keys and values."""
    found, cells = [], study.cells("prior")
    for cell in cells:
        rounding = noise(study, cell.sides.values(), ratio)
        for name, side in cell.sides.items():
            values = side.values(ratio)
            if not values:
                continue
            known = about(cell, name)
            if len(values) < SEEDS:
                found.append(replace(known, missing=f"the prior {ONE_SEED}"))
            else:
                what = "log ratio"
                numbers, trials = {what: by_seed(values)}, {what: side.trials(values)}
                found.append(replace(known, numbers=numbers, trials=trials, noise=rounding))
    if not found and cells:
        few = f"some cell {ONE_SEED}" if any(map(few_seeds, cells)) else ""
        missing = together(_missing(study), few)
        found.append(Evidence(where="all trials", missing=missing))
    return found


def _missing(study: Study) -> str:
    """Why no trial has the number, and what would give it."""
    if is_encoder(study.runs):
        return "an encoder's prompts have no keys and values; use a decoder-only model and the method prefix"
    of_keys = [
        found
        for run in study.runs
        for name, found in run.record.geometry.items()
        if Place.parse(name).kind == "key"
    ]
    if any(found.reach is None for found in of_keys):
        reason = "keys and values that train through a network have no known reach"
        return f"{reason}; add prefix without reparameterisation"
    if of_keys:
        return "no trial's keys and values have moved; train longer or at a higher rate"
    return "no prompt of the study has keys and values; add the method prefix"


def ratio(run: Run) -> float | None:
    """The logarithm of how far values moved over how far keys did, each relative to reach, in one trial.

    None for prompts without keys, without known reach, or whose keys did not move.
    """
    moved: dict[str, list[float]] = {"key": [], "value": []}
    for name, place in run.record.geometry.items():
        kind = Place.parse(name).kind
        if kind in moved and place.moved_over_reach is not None:
            moved[kind].append(place.moved_over_reach)
    if not moved["key"] or not moved["value"]:
        return None
    keys, values = (float(np.mean(own)) for own in moved.values())
    return math.log(values / keys) if keys > 0 and values > 0 else None


JUDGED = Judged(CLAIM, Direction(), evidence)
