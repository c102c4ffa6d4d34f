"""Distant priors converge later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from analysis.findings.common import (
    NO_GAIN,
    ONE_PRIOR,
    ONE_SHARED,
    SEEDS,
    Judged,
    about,
    few_seeds,
    noise,
    pair,
    together,
)
from analysis.findings.evidence import Evidence
from analysis.findings.rules import SOONER
from analysis.findings.study import Cell, Run, Side, Study, mean_loss
from analysis.findings.values import Claim
from analysis.inference import survival
from softprior.inputs.labels import counted

POINTS = 4
"""Fewest points of a validation curve after the untrained sample."""

APART = 0.01
"""Smallest difference of mean radius quantiles that puts one prior farther out than another."""

LEVEL = 0.5
"""The fixed loss, as a share of the way from no prompt to the best prior's last validation loss."""

NO_RADII = (
    "fewer than two priors have samples with a radius among real vectors, as at deeper blocks only those "
    "fitted there have one; use soft, prefix, or deep with a token level"
)
UNFINISHED = "the no-prompt baseline has not finished; run the study to its end"
NO_LOSS = "the no-prompt baseline has no validation loss; delete its record and run the study again"
UNCOUNTED = "some trials predate the counting of label tokens; delete their records and run the study again"
NOTHING_GAINED = f"{NO_GAIN} on validation; train longer or at other rates"
"""Why there is nothing to compare."""

NEVER_APART = (
    "every seed takes as long from both priors; raise training.curve, as a coarse curve hides small "
    "differences"
)
"""Why more seeds do not help."""

CLAIM = Claim(
    name="speed",
    number=4,
    words="Distant priors converge later",
    primary="Label tokens trained until the validation loss is half way from no prompt to the best prior's "
    "last one: restricted mean time of the prior whose samples lie farthest out among the vocabulary "
    "(radius quantile) less that of the prior whose samples lie nearest. Trials that do not get there are "
    "censored at their end.",
    rule="Supported if the corrected p of the log-rank test with seeds as strata is at most 0.05 and the "
    "distant prior is later, contradicted if it is sooner. p comes from sign flips of the seeds' scores, "
    "which is exact for few seeds.",
    quantity="label tokens",
)


def evidence(study: Study) -> list[Evidence]:
    """A finding for each cell."""
    return [_evidence(study, cell) for cell in study.cells("prior")]


def _evidence(study: Study, cell: Cell) -> Evidence:
    known = about(cell)
    radii = {name: radius for name, side in cell.sides.items() if (radius := _radius(side)) is not None}
    lacking = few_seeds(cell), _short_curve(cell.runs)
    if len(radii) < 2:
        one = ONE_PRIOR if len(cell.sides) < 2 else ""
        no_radii = NO_RADII if not radii or not one else ""
        return replace(known, missing=together(one, no_radii, *lacking))
    near, far = min(radii, key=radii.__getitem__), max(radii, key=radii.__getitem__)
    if radii[far] - radii[near] < APART:
        alike = "no prior is farther out than another; add a distant one"
        return replace(known, missing=together(alike, *lacking))
    if cell.baseline is None:
        return replace(known, missing=together(UNFINISHED, *lacking))
    if not cell.baseline.validation:
        return replace(known, missing=together(NO_LOSS, *lacking))
    aim = level(cell)
    if aim is None:
        return replace(known, missing=together(NOTHING_GAINED, *lacking))
    sides = cell.sides[far], cell.sides[near]
    seeds = sorted(sides[0].runs.keys() & sides[1].runs.keys())
    runs = [[side.runs[seed] for seed in seeds] for side in sides]
    both = [run for own in runs for run in own]
    few = f"the pair {ONE_SHARED}" if len(seeds) < SEEDS else ""
    uncounted = "" if all(map(counts_tokens, both)) else UNCOUNTED
    missing = together(few, uncounted, _short_curve(both or cell.runs))
    if missing:
        return replace(known, missing=missing)
    distant, close = (times(own, aim) for own in runs)
    horizon = min(_budget(run, label_tokens) for run in both)
    rounding = noise(study, sides, lambda run: min(_time(run, aim, label_tokens)[0], horizon))
    later = survival.restricted(distant, horizon) - survival.restricted(close, horizon)
    what = pair(far, near)
    # Scores are positive where the near prior is sooner, and the claim is that the distant one is later.
    tested = {what: survival.scores(close, distant)}
    trials = {what: tuple(run.id for own in runs for run in own)}
    guard = "" if later.any() else NEVER_APART
    return replace(known, numbers={what: later}, trials=trials, tested=tested, noise=rounding, guard=guard)


def _short_curve(runs: Sequence[Run]) -> str:
    """That validation curves have too few points, if so."""
    points = min(len(run.record.validation) - 1 for run in runs)
    if points >= POINTS:
        return ""
    trained = [run.record.spec.training for run in runs]
    few_steps = any(training is None or training.steps < POINTS for training in trained)
    settings = "training.steps and training.curve" if few_steps else "training.curve"
    reason = f"the validation curve has {counted(points, 'point')} after the start"
    return f"{reason}; set {settings} to {POINTS} or more"


Clock = Callable[[Run, int], float]
"""How much of its training a run has had after a number of steps."""


def label_tokens(run: Run, step: int) -> float:
    """Label tokens of the first steps; the run counts them."""
    return float(sum(point.labels or 0 for point in run.record.steps[:step]))


def steps(run: Run, step: int) -> float:  # noqa: ARG001
    """Optimizer steps, which every run counts."""
    return float(step)


def counts_tokens(run: Run) -> bool:
    """Whether a run counts label tokens; records from before they were counted have none."""
    return all(point.labels is not None for point in run.record.steps)


def times(runs: list[Run], level: float, clock: Clock = label_tokens) -> survival.Times:
    """The time until each run's validation loss is at most a level."""
    found = [_time(run, level, clock) for run in runs]
    return survival.Times(np.array([time for time, _ in found]), np.array([reached for _, reached in found]))


def _time(run: Run, level: float, clock: Clock) -> tuple[float, bool]:
    for score in run.record.validation:
        if score.loss <= level:
            return clock(run, score.step), True
    return _budget(run, clock), False


def _budget(run: Run, clock: Clock) -> float:
    return clock(run, len(run.record.steps))


def _radius(side: Side) -> float | None:
    """Mean radius quantile of the samples at the first place that has one."""
    found = []
    for run in side.runs.values():
        radii = [place.initial_radius for place in run.record.geometry.values()]
        found += [radius for radius in radii if radius is not None][:1]
    return float(np.mean(found)) if found else None


def level(cell: Cell) -> float | None:
    """The validation loss to reach; None without a baseline, or where no prompt is better than none."""
    if cell.baseline is None or not cell.baseline.validation:
        return None
    start = cell.baseline.validation[0].loss
    best = min(cell.sides.values(), key=mean_loss)
    last = float(np.mean([run.record.validation[-1].loss for run in best.runs.values()]))
    return start - LEVEL * (start - last) if last < start else None


JUDGED = Judged(CLAIM, SOONER, evidence)
