"""Priors decide where posteriors end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from analysis.findings.changes import lost_reference, why_lost
from analysis.findings.common import (
    NO_POSTERIORS,
    ONE_PRIOR,
    ONE_SHARED,
    SEEDS,
    Judged,
    few_seeds,
    of_twins,
    pair,
    places_of,
    still_falls,
    together,
)
from analysis.findings.evidence import Evidence
from analysis.findings.rules import Direction
from analysis.findings.study import Cell, Run, Study
from analysis.findings.values import Claim
from analysis.inference.energy import energy_distance
from softprior.prompt import Place

HALF = 0.5
"""The limit of the ratio: between a prior that decides (1) and one that is forgotten (0)."""

ONE_VECTOR = "a prompt of one vector has no distances among its vectors; use more tokens"
CUT = (
    "no place has vectors that can be compared as stored (cut ones enter through a norm, and keys turn with "
    "their position); use the method soft, or deep with token_level: keep"
)
"""Why no place can be compared."""

NOT_SHARED = "the two priors share no place with vectors that can be compared; compare other priors"

CLAIM = Claim(
    name="memory",
    number=1,
    words="Priors decide where posteriors end",
    primary="Energy distance between the posteriors of two priors over that between their samples (sums over "
    "seeds): 1 if the prior decides, 0 if it is forgotten.",
    rule="For each prior against the study's first: supported if the 95% interval lies above 0.5 and the "
    "corrected p of the sign-flip test (of posteriors' distance - 0.5 samples' distance, by seed) is "
    "at most 0.05, contradicted if it lies below in the same way. Undecided where the samples are "
    "farther apart than reach, so that no training could have brought them together, and where the "
    "training loss still falls.",
    formerly=(
        "Of each prior against the study's first: supported if the 95% interval lies above 0.5 and the "
        "corrected p of the sign-flip test (of posteriors' distance - 0.5 samples' distance, by seed) is "
        "at most 0.05, contradicted if it lies below in the same way. Undecided where the samples are "
        "farther apart than reach, so that no training could have brought them together, and where the "
        "training loss still falls.",
    ),
)


def evidence(study: Study) -> list[Evidence]:
    """A finding for each cell and prior but the first."""
    found = []
    for cell in study.cells("prior"):
        first, *others = cell.sides
        if not others:
            missing = together(ONE_PRIOR, _nowhere(study, cell.runs[0]), few_seeds(cell))
            found.append(Evidence(where=cell.where, missing=missing))
        own = [_evidence(study, cell, name, first) for name in others]
        apart = {key: value for _, differences in own for key, value in differences.items()}
        noise = of_twins(apart.values(), dict.fromkeys(twin for twins in apart for twin in twins))
        gone = lost_reference(cell, study.expected)
        reason = why_lost(gone) if gone else ""
        found += [replace(known, noise=noise, guard=reason or known.guard) for known, _ in own]
    return found


def _evidence(study: Study, cell: Cell, a: str, b: str) -> tuple[Evidence, dict[tuple[str, str], float]]:
    """The evidence of one pair of priors, and by how much its number differs from that of two twins."""
    sides = cell.sides[a], cell.sides[b]
    known = Evidence(
        where=f"{cell.where} · {pair(a, b)}",
        rates={side.name: side.chosen for side in sides},
        budget={side.name: len(side.rates) for side in sides},
    )
    seeds = sorted(sides[0].runs.keys() & sides[1].runs.keys())
    pairs = [(sides[0].runs[seed], sides[1].runs[seed]) for seed in seeds]
    runs = [both for both in pairs if all(run.id in study.posteriors for run in both)]
    few = f"the pair {ONE_SHARED}" if len(pairs) < SEEDS else ""
    if few or len(runs) < SEEDS:
        nowhere = _nowhere(study, runs[0][0]) if runs else ""
        unread = NO_POSTERIORS if len(runs) < len(pairs) else ""
        shared = bool(pairs) and any(
            is_comparable(place) and place in places_of(pairs[0][1]) for place in places_of(pairs[0][0])
        )
        lost = 1 if unread and shared and not (nowhere or few) else 0
        return replace(known, missing=together(unread, nowhere, few), lost=lost), {}
    if nowhere := _nowhere(study, runs[0][0]):
        return replace(known, missing=nowhere), {}
    places = [place for place in _places(study, runs[0][0]) if place in _places(study, runs[0][1])]
    if not places:
        return replace(known, missing=NOT_SHARED), {}
    scales = {place: float(_distances(study, runs, place, "initial").mean()) for place in places}
    if min(scales.values()) <= 0:
        reason = "the samples of the two priors do not differ; compare other priors"
        return replace(known, missing=reason), {}
    far = []
    for place, scale in scales.items():
        reach = [run.record.geometry[place.name].reach for both in runs for run in both]
        far.append(any(one is not None and scale > one for one in reach))
    ratios = _ratios(study, runs, scales)
    twins = {
        i: (study.twins[one.id], study.twins[other.id])
        for i, (one, other) in enumerate(runs)
        if one.id in study.twins
        and other.id in study.twins
        and study.twins[one.id].id in study.posteriors
        and study.twins[other.id].id in study.posteriors
    }
    moved = _ratios(study, list(twins.values()), scales) if twins else ()
    differences = {
        (one.id, other.id): float(ratios[i] - value)
        for (i, (one, other)), value in zip(twins.items(), moved, strict=True)
    }
    trials = tuple(run.id for both in zip(*runs, strict=True) for run in both)
    guard = ""
    if all(far):
        guard = "the priors' samples are farther apart than reach; train longer or at a higher rate"
    elif still_falls(sides):
        guard = "the training loss still falls; train longer"
    return replace(known, numbers={"ratio": ratios}, trials={"ratio": trials}, guard=guard), differences


def _ratios(
    study: Study, runs: Sequence[tuple[Run, Run]], scales: Mapping[Place, float]
) -> Float[np.ndarray, "S"]:
    """By seed, the mean over places.

    Args:
        scales: mean distance between the samples at each place.
    """
    found = []
    for place, scale in scales.items():
        before, after = (_distances(study, runs, place, moment) for moment in ("initial", "final"))
        # The mean is the ratio of sums, and numbers below the limit are as likely as above it where it holds.
        found.append((after - HALF * before) / scale + HALF)
    mean: np.ndarray = np.mean(found, axis=0)
    return mean


def _places(study: Study, run: Run) -> list[Place]:
    """Places whose vectors are compared as they are stored."""
    return [place for place, count in _stored(study, run).items() if count > 1]


def _nowhere(study: Study, run: Run) -> str:
    """Why no place of a prompt can be compared, and what helps; empty where one can, or nobody can tell."""
    if run.id not in study.posteriors or _places(study, run):
        return ""
    return ONE_VECTOR if _stored(study, run) else CUT


def _stored(study: Study, run: Run) -> dict[Place, int]:
    """Number of vectors at the places where those of two prompts mean the same."""
    posterior = study.posteriors.get(run.id)
    final = {} if posterior is None else posterior.final
    return {place: len(vectors) for place, vectors in final.items() if is_comparable(place)}


def is_comparable(place: Place) -> bool:
    """Whether the stored vectors of two prompts mean the same."""
    return place.after == "keep" and place.kind != "key"


def _distances(
    study: Study, runs: Sequence[tuple[Run, Run]], place: Place, moment: str
) -> Float[np.ndarray, "S"]:
    """Between the two priors, by seed."""
    found = []
    for both in runs:
        sets = [getattr(study.posteriors[run.id], moment)[place].double().numpy() for run in both]
        found.append(energy_distance(*sets))
    return np.array(found)


JUDGED = Judged(CLAIM, Direction(HALF), evidence)
