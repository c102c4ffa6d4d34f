"""Why seeds of one setting differ: the draw of the prior, the order of the data, or rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.findings.common import SEEDS, noise
from analysis.findings.study import Cell, Side, Study
from analysis.inference.seeds import Component, Split, split
from softprior.inputs.labels import counted

ALL = "all priors"
"""Stands for the means over the priors of a cell."""

NOT_TOLD_APART = "prior draw and data order are not told apart"
"""Of a study without reordered trials."""

BELOW = "* the estimate of the variance is below 0 and shown as 0: seeds or pairs are too few to tell"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The seeds of one prior, or of all priors of a cell, at the rates chosen on validation.

    Attributes:
        where: the cell.
        prior: its name, or `ALL`.
        parts: of the variance between test losses, in squared nats.
        trials: ids of those that have a reordered repetition.
    """

    where: str
    prior: str
    parts: Split
    trials: tuple[str, ...]


def spreads(study: Study) -> list[Spread]:
    """Each prior that has two seeds and a reordered trial, and under several of a cell the means over them.

    Rounding is pooled over the cell, whose priors have few twins.
    """
    found = []
    for cell in study.cells():
        sides = list(cell.sides.values())
        of_each = [own for side in sides if (own := _spread(study, cell, [side], side.name)) is not None]
        found += of_each
        if len(of_each) > 1:
            known = {own.prior for own in of_each}
            together = _spread(study, cell, [side for side in sides if side.name in known], ALL)
            found += [together] if together is not None else []
    return found


def has_seeds(study: Study) -> bool:
    """Whether some prior has two seeds, whose spread may have parts."""
    return any(len(side.runs) >= SEEDS for cell in study.cells() for side in cell.sides.values())


def _spread(study: Study, cell: Cell, sides: Sequence[Side], prior: str) -> Spread | None:
    seeds = sorted({seed for side in sides for seed in side.runs})
    runs = [[side.runs.get(seed) for seed in seeds] for side in sides]
    again = [[None if run is None else study.reordered.get(run.id) for run in row] for row in runs]
    results, reordered = (
        np.array([[np.nan if run is None or run.loss is None else run.loss for run in row] for row in rows])
        for rows in (runs, again)
    )
    apart = noise(study, cell.sides.values(), lambda run: run.loss)
    parts = split(results, reordered, None if apart is None else apart**2 / 2)
    if parts is None:
        return None
    trials = [run.id for row in runs for run in row if run is not None and run.id in study.reordered]
    return Spread(where=cell.where, prior=prior, parts=parts, trials=tuple(trials))


def deviation(part: Component) -> str:
    """A standard deviation in nats with its interval: `0.31 [0.12, 0.88]`."""
    ends = np.sqrt([part.interval.low, part.interval.high])
    known = f" [{ends[0]:.2g}, {ends[1]:.2g}]" if np.isfinite(ends).all() else ""
    return f"{np.sqrt(part.value):.2g}{known}{'*' if part.estimate < 0 else ''}"


def in_words(found: Sequence[Spread]) -> list[str]:
    """A line for each cell, under one that says what the numbers are; nothing without reordered trials."""
    lines = []
    for where in dict.fromkeys(own.where for own in found):
        own = [one for one in found if one.where == where][-1]  # the mean over priors, or the only prior
        parts = own.parts
        text = f"  {where} · {own.prior}: {deviation(parts.total)}; prior draw {deviation(parts.draw)}"
        text += f", data order {deviation(parts.order)}"
        if parts.rounding is not None:
            text += f", rounding {np.sqrt(parts.rounding):.2g}"
        text += f" ({counted(parts.seeds, 'seed')}, {counted(parts.pairs, 'pair')})"
        lines.append(text)
    if not lines:
        return []
    first = "spread of seeds: standard deviations of test losses in nats, 95% over seeds (of four or more)"
    stars = [f"  {BELOW}"] if any("*" in line for line in lines) else []
    return [first, *lines, *stars]
