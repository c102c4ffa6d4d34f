"""A map of test loss over priors and rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures.palette import ORANGE
from analysis.figures.settings import short_rate
from analysis.figures.style import NORMAL, PAGE, SMALL, TITLE, page, short_loss
from analysis.findings.study import Cell, Side
from softprior.inputs.specs import Rate

DARK = 0.5
"""Share of the colours' range below which letters are white."""


@dataclass(frozen=True, kw_only=True)
class RateMap:
    """One cell of a study.

    Attributes:
        rates: in words, absolute ones first, rising.
        losses: mean test loss over seeds, in nats; nan where there is no finished trial.
        spreads: standard deviation over seeds; nan for one seed.
        seeds: number of finished seeds.
        chosen: of every prior the rate that validation chooses.
    """

    where: str
    priors: tuple[str, ...]
    rates: tuple[str, ...]
    losses: Float[np.ndarray, "P R"]
    spreads: Float[np.ndarray, "P R"]
    seeds: Int[np.ndarray, "P R"]
    chosen: tuple[int, ...]


def rate_map_of(cell: Cell) -> RateMap:
    """The losses of a cell."""
    known = dict(item for side in cell.sides.values() for item in _rates(side))
    rates = sorted(known, key=lambda label: (known[label].relative, known[label].value))
    shape = (len(cell.sides), len(rates))
    losses, spreads, seeds = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, dtype=int)
    for at in np.ndindex(shape):
        runs = list(cell.sides.values())[at[0]].rates.get(rates[at[1]], {})
        own = np.array([run.loss for run in runs.values() if run.loss is not None])
        seeds[at] = len(own)
        if len(own):
            losses[at] = own.mean()
        if len(own) > 1:
            spreads[at] = own.std(ddof=1)
    return RateMap(
        where=cell.where,
        priors=tuple(cell.sides),
        rates=tuple(rates),
        losses=losses,
        spreads=spreads,
        seeds=seeds,
        chosen=tuple(rates.index(side.chosen) for side in cell.sides.values()),
    )


def _rates(side: Side) -> list[tuple[str, Rate]]:
    """Rates in words, and as they are."""
    firsts = ((label, next(iter(runs.values()))) for label, runs in side.rates.items())
    return [(label, run.record.spec.rate) for label, run in firsts if run.record.spec.rate is not None]


def draw_rates(cells: Sequence[RateMap], width: float = PAGE) -> Figure:
    """One panel per cell."""
    counts = np.concatenate([cell.seeds[cell.seeds > 0] for cell in cells])
    few, most = int(counts.min()), int(counts.max())
    n = f"{few} to {most}" if few != most else str(most)
    caption = (
        f"Test loss in nats: mean over seeds ± standard deviation (n = {n} per cell"
        + (", given where it is not the largest" if few != most else "")
        + "). Framed: the rate that validation chooses for the prior. Darker is lower."
    )
    rows = max(len(cell.priors) for cell in cells)
    height = 0.7 + (0.44 if few != most else 0.34) * rows
    figure, panels = page(len(cells), caption, width=width, height=height, columns=2)
    for panel, cell in zip(panels, cells, strict=True):
        _draw(panel, cell, most)
    return figure


def _draw(panel: Axes, cell: RateMap, most: int) -> None:
    known = cell.losses[np.isfinite(cell.losses)]
    # A diverged rate would leave one colour for all others.
    low, high = (known.min(), np.quantile(known, 0.9)) if len(known) else (0.0, 1.0)
    panel.imshow(cell.losses, cmap="cividis", vmin=low, vmax=max(high, low + 1e-9), aspect="auto")
    for row, column in np.ndindex(cell.losses.shape):
        loss, spread = float(cell.losses[row, column]), float(cell.spreads[row, column])
        if not np.isfinite(loss):
            panel.text(column, row, "none", fontsize=SMALL - 1, ha="center", va="center", color="#777777")
            continue
        text = short_loss(loss) + (f"\n± {short_loss(spread)}" if np.isfinite(spread) else "")
        if cell.seeds[row, column] != most:
            text += f"\nn = {cell.seeds[row, column]}"
        dark = (min(loss, high) - low) / max(high - low, 1e-9) < DARK
        colour = "white" if dark else "black"
        panel.text(column, row, text, fontsize=SMALL - 1, ha="center", va="center", color=colour)
    for row, column in enumerate(cell.chosen):
        box = Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, fill=False, edgecolor=ORANGE, linewidth=1.5)
        panel.add_patch(box)
    panel.set_xticks(range(len(cell.rates)), [short_rate(rate) for rate in cell.rates])
    panel.set_yticks(range(len(cell.priors)), cell.priors)
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)
    panel.set_xlabel("rate", fontsize=NORMAL)
    panel.set_title(cell.where, fontsize=TITLE)
