"""Learning curves: validation loss over steps, by prior, with a band over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.palette import Look, Looks
from analysis.figures.settings import CHOSEN, band_text, looks_for, prior_keys
from analysis.figures.style import NORMAL, PAGE, TITLE, logarithmic, page
from analysis.findings.study import Cell

WIDE = 10.0
"""Highest over lowest mean loss above which the axis is logarithmic."""

BAND, FEW = 0.6, 4
"""Opacity of all bands of a panel together, and the number of priors from which on they share it."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One prior.

    Attributes:
        rate: in words.
        steps: optimizer steps at which all seeds were validated; 0 is the untrained sample.
        mean, low, high: over seeds, in nats: mean, lowest and highest.
    """

    prior: str
    rate: str
    seeds: tuple[int, ...]
    steps: Int[np.ndarray, "K"]
    mean: Float[np.ndarray, "K"]
    low: Float[np.ndarray, "K"]
    high: Float[np.ndarray, "K"]


@dataclass(frozen=True, kw_only=True)
class Curves:
    """One cell of a study."""

    where: str
    curves: tuple[Curve, ...]


def curves_of(cell: Cell) -> Curves:
    """The curves of a cell at the rates that validation chooses."""
    found = []
    for side in cell.sides.values():
        scores = {seed: run.record.validation for seed, run in side.runs.items() if run.record.validation}
        curves = {seed: {score.step: score.loss for score in own} for seed, own in scores.items()}
        steps = sorted(set.intersection(*map(set, curves.values()))) if curves else []
        if not steps:
            continue
        losses = np.array([[curve[step] for step in steps] for curve in curves.values()])
        found.append(
            Curve(
                prior=side.name,
                rate=side.chosen,
                seeds=tuple(curves),
                steps=np.array(steps),
                mean=losses.mean(0),
                low=losses.min(0),
                high=losses.max(0),
            )
        )
    return Curves(where=cell.where, curves=tuple(found))


def draw_curves(cells: Sequence[Curves], width: float = PAGE, looks: Looks | None = None) -> Figure:
    """One panel per cell."""
    every = [curve for cell in cells for curve in cell.curves]
    band = band_text([curve.seeds for curve in every])
    caption = f"Validation loss: {band}. {CHOSEN} Step 0 is the untrained sample."
    looks = looks_for((curve.prior for curve in every), looks)
    figure, panels = page(
        len(cells), caption, width=width, height=2.4, columns=2, keys=prior_keys(looks, line=True)
    )
    for panel, cell in zip(panels, cells, strict=True):
        for curve in cell.curves:
            _draw(panel, curve, looks[curve.prior], BAND / max(len(cell.curves), FEW))
        low = min((curve.low.min() for curve in cell.curves), default=1.0)
        high = max((curve.mean.max() for curve in cell.curves), default=1.0)
        if low > 0 and high / low > WIDE:
            logarithmic(panel.yaxis, low, high)
        panel.set_title(cell.where, fontsize=TITLE)
        panel.set_xlabel("optimizer step", fontsize=NORMAL)
        panel.set_ylabel("validation loss (nats)", fontsize=NORMAL)
    return figure


def _draw(panel: Axes, curve: Curve, look: Look, alpha: float) -> None:
    panel.fill_between(curve.steps, curve.low, curve.high, color=look.colour, alpha=alpha, linewidth=0)
    often = max(1, len(curve.steps) // 6)
    panel.plot(
        curve.steps,
        curve.mean,
        color=look.colour,
        linestyle=look.dash,
        marker=look.marker,
        markersize=3.5,
        markevery=often,
        linewidth=1.2,
    )
