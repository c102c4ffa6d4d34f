"""Paired differences of test losses along one axis of a study, with their tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.findings.common import loss, noise
from analysis.findings.sentences import FOUR
from analysis.findings.study import AXES, Cell, Study
from analysis.inference import power
from analysis.inference.intervals import TWO_SEEDS, over_seeds
from analysis.inference.intervals import spread as spread_of
from analysis.inference.multiple import holm
from analysis.inference.permutation import NAME, least_p, sign_flip
from analysis.inference.values import LEVEL, POWER, Interval
from softprior.errors import UserError, suggestion
from softprior.inputs.labels import counted


@dataclass(frozen=True, kw_only=True)
class Row:
    """One value of the axis against the first, in one cell.

    Attributes:
        where: the values on the other axes.
        value, reference: of the axis.
        rates: chosen on validation for both; empty if the axis is the rate.
        budgets: number of rates that both were tuned over.
        seeds: number of seeds that both have.
        difference: of mean test losses in nats; negative where the value is better. None without a
            common seed.
        interval: 95%, over seeds; none of one or two seeds or of equal ones.
        averaged: the same difference averaged over rates; None where a side has one rate or lacks some.
        p, adjusted: of sign flips, raw and by Holm over all rows of the table.
        least_p: the smallest p that exists with these seeds.
        more_seeds: see `Comparison`.
        noise: of twins, see `Finding`; along the axis rate, of these two rates alone.
        detectable: see `Comparison`.
        trials, averaged_trials: ids of the trials that `difference` and `averaged` come from.
    """

    where: str
    value: str
    reference: str
    rates: tuple[str, str] | None
    budgets: tuple[int, int]
    seeds: int
    difference: float | None = None
    interval: Interval | None = None
    averaged: float | None = None
    p: float = 1.0
    adjusted: float = 1.0
    least_p: float = 1.0
    more_seeds: int | None = None
    noise: float | None = None
    detectable: float | None = None
    trials: tuple[str, ...] = ()
    averaged_trials: tuple[str, ...] = ()

    @property
    def has_ends(self) -> bool:
        """Whether there is an interval."""
        return self.interval is not None and not self.interval.missing


MOST = 63
"""The largest number of seeds searched for how many are enough."""

TEST = NAME
"""Name of the test of every row."""


def require_axis(axis: str) -> None:
    """Refuses what is not an axis.

    Raises:
        UserError: it is none.
    """
    if axis not in AXES:
        raise UserError(f"there is no axis '{axis}' to compare; {suggestion(axis, list(AXES))}")


def compare(study: Study, axis: str) -> list[Row]:
    """Every value of an axis against the first one, seed by seed, wherever all else is equal.

    Raises:
        UserError: there is no such axis, or the study has one value on it.
    """
    require_axis(axis)
    cells = [cell for cell in study.cells(axis) if len(cell.sides) > 1]
    if not cells:
        only = next(iter(study.runs)).axes[axis]
        raise UserError(
            f"where all else is equal, the finished trials have only one {axis} ({only}); compare along "
            "another axis"
        )
    drafts = [(cell, name) for cell in cells for name in list(cell.sides)[1:]]
    tested = [cell.differences(name, next(iter(cell.sides)), loss) for cell, name in drafts]
    raw = [float(sign_flip(own)) if len(own) > 1 else 1.0 for own in tested]
    known = [i for i, own in enumerate(tested) if len(own) > 1]
    corrected = dict(zip(known, holm(np.array([raw[i] for i in known])).tolist(), strict=True))
    level = LEVEL / max(1, len(known))
    rows = []
    for i, (cell, name) in enumerate(drafts):
        rows.append(_row(study, axis, cell, name, tested[i], raw[i], corrected.get(i, 1.0), level))
    return rows


def _row(
    study: Study, axis: str, cell: Cell, name: str, own: np.ndarray, raw: float, adjusted: float, level: float
) -> Row:
    reference = next(iter(cell.sides))
    sides = cell.sides[name], cell.sides[reference]
    averaged = cell.differences(name, reference, loss, averaged=True)
    several = axis != "rate" and len(sides[0].rates) > 1 and sides[0].rates.keys() == sides[1].rates.keys()
    more: int | None = None
    rounding = noise(study, sides if axis == "rate" else cell.sides.values(), loss)
    spread = spread_of(own) if len(own) > 1 else None
    if adjusted <= LEVEL:
        more = 0
    elif spread is not None:
        more = power.more_seeds(float(own.mean()), spread, len(own), level)
    return Row(
        where=cell.where,
        value=name,
        reference=reference,
        rates=None if axis == "rate" else (sides[0].chosen, sides[1].chosen),
        budgets=(len(sides[0].rates), len(sides[1].rates)),
        seeds=len(own),
        difference=float(own.mean()) if len(own) else None,
        interval=over_seeds(own) if len(own) else None,
        averaged=float(averaged.mean()) if several and len(averaged) else None,
        p=raw,
        adjusted=adjusted,
        least_p=least_p(len(own)) if len(own) else 1.0,
        more_seeds=more,
        # Higher rates amplify rounding more, so that of other rates says nothing about these two.
        noise=None if rounding is None else rounding.value,
        detectable=None if spread is None else power.detectable(spread, len(own), level),
        trials=cell.trials(name, reference, loss),
        averaged_trials=cell.trials(name, reference, loss, averaged=True) if several else (),
    )


def differing(study: Study) -> list[str]:
    """The axes along which the study has two values and two seeds to compare."""
    found = []
    for axis in AXES:
        cells = [cell for cell in study.cells(axis) if len(cell.sides) > 1]
        seeds = (_common(cell) for cell in cells)
        if any(count > 1 for count in seeds):
            found.append(axis)
    return found


def _common(cell: Cell) -> int:
    """Number of seeds that the first two sides have in common."""
    first, second, *_ = cell.sides.values()
    return len(first.runs.keys() & second.runs.keys())


def caption(rows: Sequence[Row]) -> list[str]:
    """What the table's numbers mean, and what they cannot show."""
    tests = sum(row.seeds > 1 for row in rows)
    over = ", 95% over seeds" if any(row.has_ends for row in rows) else ""
    end = ";" if tests else ""
    lines = [f"difference of test losses in nats (negative: better than the reference){over}{end}"]
    if tests:
        lines.append(f"p: {TEST} of paired differences, then Holm over {counted(tests, 'comparison')}")
    if any(row.detectable is not None for row in rows):
        lines.append(f"detectable: with {POWER:.0%} power, at the level of Holm's first test")
    if any(row.seeds >= FOUR and row.more_seeds != 0 for row in rows):
        lines.append(
            "add: seeds to add until a difference of this size and spread is found with "
            f"{POWER:.0%} power; findings, which are corrected over all tests of the study's claims, ask for "
            "more, and a finding of equality asks for the seeds that show it or, if the difference is beyond "
            "the margin, that it is"
        )
    tested = [row for row in rows if row.seeds > 1]
    corrected = holm(np.array([row.least_p for row in tested]))
    # Rows with the fewest seeds come last in Holm's order.
    best: dict[int, float] = {}
    for row, p in zip(tested, corrected.tolist(), strict=True):
        best[row.seeds] = min(p, best.get(row.seeds, 1.0))
    for seeds, p in sorted(best.items()):
        if p > LEVEL:
            needed = _needed(tested, seeds)
            fewest = f"at least {needed}" if needed else f"more than {MOST}"
            lines.append(
                f"{counted(seeds, 'seed')} give p = {least_p(seeds):.2g} at best, {p:.2g} after Holm over "
                "this table alone (findings are corrected over all tests of a study and may need more): "
                f"{fewest} seeds are needed for {LEVEL}"
            )
    if any(row.seeds < 2 for row in rows):
        lines.append("one seed has no interval and no test; add seeds")
    if any(1 < row.seeds < FOUR and row.more_seeds != 0 for row in rows):
        lines.append("two or three seeds do not tell how many more are needed")
    missing = [row.interval.missing for row in rows if row.seeds > 1 and row.interval is not None]
    if TWO_SEEDS in missing:
        lines.append("two seeds have no interval; add seeds")
    if any(why and why != TWO_SEEDS for why in missing):
        lines.append(
            "seeds with equal differences have no interval, as they do not show how far others are; add seeds"
        )
    return lines


def _needed(rows: Sequence[Row], seeds: int) -> int | None:
    """Seeds with which one of the rows that have `seeds` could be below 0.05, where the other rows stay.

    Rows with more seeds come before it in Holm's order, and so its p is multiplied by fewer.
    """
    for count in range(seeds + 1, MOST + 1):
        least = np.array([least_p(count) if row.seeds == seeds else row.least_p for row in rows])
        if min(p for p, row in zip(holm(least), rows, strict=True) if row.seeds == seeds) <= LEVEL:
            return count
    return None
