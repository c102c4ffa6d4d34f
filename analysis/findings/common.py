"""What several claims share: margins, comparisons with a reference, and whether training has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from analysis.findings.evidence import Evidence
from analysis.findings.rules import Rule
from analysis.findings.study import Cell, Run, Side, Study, mean_loss
from analysis.findings.values import Claim

MARGIN = 0.05
"""Of equality, as a share of what the best prompt gains over no prompt."""

SEEDS = 2
"""Fewest seeds for an interval."""

FALLING = 0.1
"""Share of the fall of the training loss that its last quarter may have at most, once training has ended."""

ONE_SEED = "has fewer than two seeds with both sides; add seeds"


class Judged(NamedTuple):
    """A claim with what decides it.

    Attributes:
        claim: its words.
        rule: how numbers become a verdict.
        evidence: takes the numbers from a study; empty only if the study has no trained trial at all.
    """

    claim: Claim
    rule: Rule
    evidence: Callable[[Study], list[Evidence]]


def loss(run: Run) -> float | None:
    """Test loss."""
    return run.loss


def moved(run: Run) -> float | None:
    """Distance from the start, the mean over places."""
    places = run.record.geometry.values()
    return float(np.mean([place.moved for place in places])) if places else None


def pair(a: str, b: str) -> str:
    """The name of a difference."""
    return f"{a} - {b}"


def margin(cell: Cell) -> float | None:
    """The margin of equality in nats; None without a baseline or if no prompt gains anything."""
    if cell.baseline is None or cell.baseline.test is None:
        return None
    best = min(map(mean_loss, cell.sides.values()))
    width = MARGIN * (cell.baseline.test.loss - best)
    return width if width > 0 else None


def missing_margin(cell: Cell) -> str:
    """Why there is no margin."""
    if cell.baseline is None or cell.baseline.test is None:
        return "the no-prompt baseline has not finished, so there is no margin; run the study to its end"
    return "no prompt is better than none, so there is no margin; train longer or at other rates"


def equal(cell: Cell, names: Iterable[str], noise: float | None) -> Evidence:
    """Evidence that the losses of some sides are equal, each at its own chosen rate.

    Args:
        names: of the sides; the first is the reference.
    """
    names = list(names)
    known = {"where": cell.where, "rates": cell.rates, "budget": cell.budget, "noise": noise}
    width = margin(cell)
    if width is None:
        return Evidence(missing=missing_margin(cell), **known)
    numbers = {pair(b, a): cell.differences(b, a, loss) for a, b in combinations(names, 2)}
    if any(len(own) < SEEDS for own in numbers.values()):
        return Evidence(missing=f"some pair {ONE_SEED}", **known)
    primary = tuple(pair(b, names[0]) for b in names[1:])
    return Evidence(numbers=numbers, margin=width, primary=primary, **known)


def by_seed(values: dict[int, float]) -> Float[np.ndarray, "S"]:
    """Numbers in the order of their seeds."""
    return np.array([values[seed] for seed in sorted(values)])


def noise(study: Study, cell: Cell) -> float | None:
    """Root mean square of the differences between twins of the cell's task; None without twins."""
    found = [twins for task, twins in study.twins.items() if cell.where.split(" · ")[0] == task]
    return float(np.sqrt(np.mean((found[0][:, 0] - found[0][:, 1]) ** 2))) if found else None


def still_falls(sides: Iterable[Side]) -> bool:
    """Whether the training loss has fallen in its last quarter by over a tenth of all that it fell.

    Means of quarters, over label tokens and all trials at the chosen rates.
    """
    firsts, thirds, lasts = [], [], []
    for run in (run for side in sides for run in side.runs.values()):
        steps = run.record.steps
        if len(steps) < 4:
            return True  # too few steps to see an end
        losses = np.array([step.loss for step in steps])
        weights = np.array([step.labels or 1 for step in steps])
        quarters = np.array_split(np.arange(len(steps)), 4)
        means = [float(np.average(losses[own], weights=weights[own])) for own in quarters]
        firsts.append(means[0])
        thirds.append(means[2])
        lasts.append(means[3])
    fall = np.mean(firsts) - np.mean(lasts)
    return bool(np.mean(thirds) - np.mean(lasts) > FALLING * fall) if fall > 0 else False
