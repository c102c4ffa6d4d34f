"""Test loss against the distance that training moved a prompt, over its reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.palette import LINE, Looks
from analysis.figures.settings import looks_for, no_prompt, prior_keys, seeds_text
from analysis.figures.style import NORMAL, PAGE, TITLE, limits, logarithmic, page
from analysis.findings.study import Cell
from softprior.inputs.labels import counted
from softprior.results.means import over_places


@dataclass(frozen=True, kw_only=True)
class MovedPoint:
    """One trial.

    Attributes:
        moved_over_reach: mean over places of distance moved over reach.
        loss: on the test split, in nats.
    """

    prior: str
    rate: str
    seed: int
    moved_over_reach: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One cell of a study, with every rate.

    Attributes:
        nothing: test loss without a prompt; None if it is not known.
    """

    where: str
    points: tuple[MovedPoint, ...]
    nothing: float | None = None


def moved_of(cell: Cell) -> Moved:
    """A cell's trials; reparameterised prompts have no reach and are left out."""
    points = []
    for side in cell.sides.values():
        for rate, runs in side.rates.items():
            for seed, run in runs.items():
                ratio = over_places(run.record.geometry).get("moved_over_reach")
                if ratio is not None and run.loss is not None:
                    points.append(
                        MovedPoint(
                            prior=side.name, rate=rate, seed=seed, moved_over_reach=ratio, loss=run.loss
                        )
                    )
    nothing = None if cell.baseline is None or cell.baseline.test is None else cell.baseline.test.loss
    return Moved(where=cell.where, points=tuple(points), nothing=nothing)


def draw_moved(cells: Sequence[Moved], width: float = PAGE, looks: Looks | None = None) -> Figure:
    """One panel per cell, one point per trial."""
    every = [point for cell in cells for point in cell.points]
    groups: dict[tuple[str, str, str], list[int]] = {}
    for cell in cells:
        for point in cell.points:
            groups.setdefault((cell.where, point.prior, point.rate), []).append(point.seed)
    rates = len({point.rate for point in every})
    caption = (
        f"{counted(len(every), 'trial')}: {seeds_text(groups.values())} per prior and rate, "
        f"{counted(rates, 'rate')}. Reach is how far a constant gradient carries a vector at that rate: a "
        "prompt near its start with a small reach had to stay there."
    )
    far = [cell.nothing for cell in cells if cell.nothing is not None and not _inside(cell)]
    caption += no_prompt(any(_inside(cell) for cell in cells), far)
    looks = looks_for((point.prior for point in every), looks)
    figure, panels = page(len(cells), caption, width=width, height=2.4, columns=2, keys=prior_keys(looks))
    for panel, cell in zip(panels, cells, strict=True):
        for prior, look in looks.items():
            own = [p for p in cell.points if p.prior == prior]
            panel.scatter(
                [p.moved_over_reach for p in own],
                [p.loss for p in own],
                s=16,
                color=look.colour,
                marker=look.marker,
                linewidths=0.3,
                edgecolors="white",
            )
        x = np.array([p.moved_over_reach for p in cell.points])
        y = np.array([p.loss for p in cell.points])
        if len(x) and x.min() > 0 and x.max() / x.min() > 5:
            logarithmic(panel.xaxis, x.min(), x.max())
        elif len(x):
            panel.set_xlim(*limits(x, x))
        if len(y):
            low, high = limits(y, y)
            if cell.nothing is not None and _inside(cell):
                high = max(high, cell.nothing + 0.05 * (high - low))
                panel.axhline(cell.nothing, color=LINE, linestyle=":", linewidth=1, zorder=0)
            panel.set_ylim(low, high)
        panel.set_title(cell.where, fontsize=TITLE)
        panel.set_xlabel("distance moved / reach", fontsize=NORMAL)
        panel.set_ylabel("test loss (nats)", fontsize=NORMAL)
    return figure


def _inside(cell: Moved) -> bool:
    """Whether the loss without a prompt has room beside the others, which it would squeeze."""
    if cell.nothing is None or not cell.points:
        return False
    losses = np.array([point.loss for point in cell.points])
    low, high = limits(losses, losses)
    return low < cell.nothing < high + (high - low)
