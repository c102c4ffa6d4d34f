"""Test loss of every prior with its interval over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.palette import LINE, Looks
from analysis.figures.settings import CHOSEN, looks_for, no_intervals, no_prompt, seeds_text, short_rate
from analysis.figures.style import NORMAL, PAGE, TITLE, page
from analysis.findings.study import Cell
from analysis.inference.intervals import over_seeds
from analysis.inference.values import LOSS, Interval


@dataclass(frozen=True, kw_only=True)
class PriorLoss:
    """One prior.

    Attributes:
        losses: test loss of each seed at the chosen rate, in nats.
    """

    prior: str
    rate: str
    losses: tuple[tuple[int, float], ...]

    @property
    def mean(self) -> float:
        return float(np.mean([loss for _, loss in self.losses]))

    @property
    def interval(self) -> Interval:
        """95%, over seeds; none of one or two seeds or of equal ones."""
        return over_seeds(np.array([loss for _, loss in self.losses]), possible=LOSS)


@dataclass(frozen=True, kw_only=True)
class Losses:
    """One cell of a study.

    Attributes:
        nothing: test loss without a prompt; None if it is not known.
    """

    where: str
    priors: tuple[PriorLoss, ...]
    nothing: float | None = None


def losses_of(cell: Cell) -> Losses:
    """The losses of a cell at the rates that validation chooses."""
    priors = [
        PriorLoss(
            prior=side.name,
            rate=side.chosen,
            losses=tuple((seed, run.loss) for seed, run in side.runs.items() if run.loss is not None),
        )
        for side in cell.sides.values()
    ]
    nothing = None if cell.baseline is None or cell.baseline.test is None else cell.baseline.test.loss
    return Losses(where=cell.where, priors=tuple(p for p in priors if p.losses), nothing=nothing)


def draw_losses(cells: Sequence[Losses], width: float = PAGE, looks: Looks | None = None) -> Figure:
    """One panel per cell, one line per prior."""
    every = [prior for cell in cells for prior in cell.priors]
    seeds = seeds_text([seed for seed, _ in prior.losses] for prior in every)
    drawn = " with 95% intervals (Student's)," if any(not prior.interval.missing for prior in every) else ""
    shown = f"means over {seeds} (large marks){drawn} and single seeds (small)"
    if max((len(prior.losses) for prior in every), default=0) < 2:
        shown = f"{seeds}, so no interval"
    caption = f"Test loss: {shown}. {CHOSEN} The rate is in brackets."
    caption += no_intervals((prior.interval.missing for prior in every if len(prior.losses) > 1), "losses")
    far = [cell.nothing for cell in cells if cell.nothing is not None and not _inside(cell)]
    caption += no_prompt(any(_inside(cell) for cell in cells), far)
    rows = max(len(cell.priors) for cell in cells)
    figure, panels = page(len(cells), caption, width=width, height=0.75 + 0.24 * rows, columns=2)
    looks = looks_for((prior.prior for prior in every), looks)
    for panel, cell in zip(panels, cells, strict=True):
        _draw(panel, cell, looks)
    return figure


def _ends(cell: Losses) -> tuple[float, float]:
    """The lowest and the highest number of the priors."""
    values = [loss for prior in cell.priors for _, loss in prior.losses]
    values += [end for p in cell.priors for end in (p.interval.low, p.interval.high) if np.isfinite(end)]
    return min(values), max(values)


def _inside(cell: Losses) -> bool:
    """Whether the loss without a prompt has room beside the others, which it would squeeze."""
    low, high = _ends(cell)
    return cell.nothing is not None and low - (high - low) < cell.nothing < high + 2 * (high - low)


def _draw(panel: Axes, cell: Losses, looks: Looks) -> None:
    for row, prior in enumerate(cell.priors):
        look = looks[prior.prior]
        seeds = [loss for _, loss in prior.losses]
        panel.plot(seeds, [row] * len(seeds), look.marker, color=look.colour, alpha=0.4, markersize=3, mew=0)
        ends = prior.interval
        if np.isfinite(ends.low):
            panel.plot((ends.low, ends.high), (row, row), color=look.colour, linewidth=1.5)
        panel.plot(prior.mean, row, look.marker, color=look.colour, markersize=5.5)
    if cell.nothing is not None and _inside(cell):
        panel.axvline(cell.nothing, color=LINE, linestyle=":", linewidth=1, zorder=0)
    names = [f"{prior.prior} ({short_rate(prior.rate)})" for prior in cell.priors]
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(cell.priors) - 0.5, -0.5)
    panel.set_xlabel("test loss (nats)", fontsize=NORMAL)
    panel.set_title(cell.where, fontsize=TITLE)
