"""Why seeds of one setting differ: the draw of the prior, the order of the data, or rounding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.findings.common import SEEDS, noise
from analysis.findings.study import Side, Study
from analysis.inference.seeds import Component, Split, split
from softprior.inputs.labels import counted

ALL = "all priors"
"""Stands for the means over the priors of a cell."""

NOT_TOLD_APART = "prior draw and data order cannot be told apart"
"""What a study without reordered trials is told."""

HALF_PRECISION = (
    "In half precision twins understate rounding, which then counts as the data order or, without reordered "
    "trials, as seeds."
)
"""As the move of twins is smaller than the resolution there."""

TOGETHER = "An effect that an order has only on certain draws counts as the data order."

NO_TWINS = "Without twins rounding counts as the data order."

BELOW = (
    "* the estimate of the variance is below 0, as that of a part near 0 can be by chance; it is shown as 0, "
    "and no other part is changed to compensate"
)
"""As in the figure, see `analysis.inference.components.shares_of`."""

UNBOUNDED = (
    "+ the interval reaches beyond that of the whole spread, of which this is a part: its upper end says no "
    "more than that of the whole"
)
"""Of one prior with three pairs, the upper end is 7 times the true deviation in half of all studies."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The seeds of one prior, or of all priors of a cell, at the rates chosen on validation.

    Attributes:
        where: the cell.
        prior: its name, or `ALL`.
        parts: of the variance between test losses, in squared nats.
        trials: ids of the seeds.
        reordered: ids of the reordered trials, and of those among `trials` that they repeat.
        twins: ids of the twins that rounding comes from.
    """

    where: str
    prior: str
    parts: Split
    trials: tuple[str, ...]
    reordered: tuple[str, ...]
    twins: tuple[str, ...]


def spreads(study: Study) -> list[Spread]:
    """Each prior that has two seeds and a reordered trial, and under several of a cell the means over them.

    Rounding is pooled over the cell, whose priors have few twins; in the means, over the priors of the means.
    """
    found = []
    for cell in study.cells():
        sides = list(cell.sides.values())
        of_each = [own for side in sides if (own := _spread(study, cell.where, [side], sides)) is not None]
        found += of_each
        if len(of_each) > 1:
            known = {own.prior for own in of_each}
            those = [side for side in sides if side.name in known]
            together = _spread(study, cell.where, those, those)
            found += [together] if together is not None else []
    return found


def has_seeds(study: Study) -> bool:
    """Whether some prior has two seeds, whose spread may have parts."""
    return any(len(side.runs) >= SEEDS for cell in study.cells() for side in cell.sides.values())


def _spread(study: Study, where: str, sides: Sequence[Side], pooled: Sequence[Side]) -> Spread | None:
    """The spread of one side, or the means over several; rounding from the twins of `pooled`."""
    seeds = sorted({seed for side in sides for seed in side.runs})
    runs = [[side.runs.get(seed) for seed in seeds] for side in sides]
    again = [[None if run is None else study.reordered.get(run.id) for run in row] for row in runs]
    results, reordered = (
        np.array([[np.nan if run is None or run.loss is None else run.loss for run in row] for row in rows])
        for rows in (runs, again)
    )
    apart = noise(study, pooled, lambda run: run.loss)
    parts = split(results, reordered, None if apart is None else apart.value**2 / 2)
    if parts is None:
        return None
    known = [run for row in runs for run in row if run is not None and run.loss is not None]
    pairs = study.pairs(known, study.reordered)
    return Spread(
        where=where,
        prior=sides[0].name if len(sides) == 1 else ALL,
        parts=parts,
        trials=tuple(run.id for run in known),
        reordered=tuple(run.id for pair in pairs for run in pair),
        twins=() if apart is None else apart.twins,
    )


def deviation(part: Component, whole: Component | None = None) -> str:
    """A standard deviation in nats with its interval and the marks of notes: `0.31 [0.12, 0.88]`.

    Args:
        whole: of which it is a part.
    """
    ends = np.sqrt([part.interval.low, part.interval.high])
    known = f" [{ends[0]:.2g}, {ends[1]:.2g}]" if np.isfinite(ends).all() else ""
    return f"{np.sqrt(part.value):.2g}{known}{_marks(part, whole)}"


def _marks(part: Component, whole: Component | None) -> str:
    ends = np.isfinite(part.interval.high)
    beyond = whole is not None and ends and not part.interval.high <= whole.interval.high
    return f"{'*' if part.estimate < 0 else ''}{'+' if beyond else ''}"


def notes(found: Iterable[Spread]) -> list[str]:
    """What the marks of these spreads mean."""
    parts = [own.parts for own in found]
    marks = {m for own in parts for part in (own.draw, own.order) for m in _marks(part, own.total)}
    return [note for mark, note in {"*": BELOW, "+": UNBOUNDED}.items() if mark in marks]


def in_words(found: Sequence[Spread]) -> list[str]:
    """A line for each cell, under one that says what the numbers are; nothing without reordered trials."""
    shown = list({one.where: one for one in found}.values())  # the mean over priors, or the only prior
    if not shown:
        return []
    lines = ["spread of seeds: standard deviations of test losses in nats, 95% over seeds (of four or more)"]
    for own in shown:
        parts = own.parts
        text = f"  {own.where} · {own.prior}: {deviation(parts.total)}"
        text += f"; prior draw {deviation(parts.draw, parts.total)}"
        text += f", data order {deviation(parts.order, parts.total)}"
        if parts.rounding is not None:
            text += f", rounding {np.sqrt(parts.rounding):.2g}"
        lines.append(f"{text} ({counted(parts.seeds, 'seed')}, {counted(parts.pairs, 'pair')})")
    return [*lines, *(f"  {text}" for text in (*notes(shown), *caveats(found)))]


def caveats(found: Sequence[Spread]) -> list[str]:
    """In which direction the parts may be wrong, a sentence each."""
    unknown = any(one.parts.rounding is None for one in found)
    known = any(one.parts.rounding is not None for one in found)
    return [TOGETHER, *[NO_TWINS] * unknown, *[HALF_PRECISION] * known]
