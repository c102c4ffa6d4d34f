"""The figures that carry the answer: test loss and learning curves by prior, at the chosen rates."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.findings.study import Cell, Run, Side
from analysis.inference.intervals import ends_over_seeds
from analysis.report.grid import mean
from analysis.report.read import Reading
from analysis.report.values import Picture, Section, missing
from softprior.inputs.labels import counted
from softprior.results.storage import listed

matplotlib.use("Agg")

KEY, TITLE = "figures", "Figures"

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's palette: told apart by colour-blind readers."""

MARKERS = "osD^vPX*"
"""Beyond the eighth prior colours come again with another marker."""

MOST = 4
"""Cells (tasks and methods) that are drawn; the tables have all."""

FILES = 12
"""Figures of the study's own folder that are shown."""


def section(reading: Reading) -> Section:
    """Test losses and learning curves of each cell, then the figures that the study drew at its end."""
    cells = reading.study.cells("prior")[:MOST]
    kept = _kept(reading)
    drawn = [picture for cell in cells if (picture := _losses(cell))]
    if not any(picture.title.startswith("Learning curves") for picture in kept):
        drawn += [picture for cell in cells if (picture := _curves(cell))]
    drawn += kept
    if not drawn:
        return missing(
            KEY, TITLE, "No trial with a trained prompt has finished, so there is nothing to draw."
        )
    return Section(key=KEY, title=TITLE, blocks=tuple(drawn))


def _kept(reading: Reading) -> list[Picture]:
    """Figures in `figures/study/`, which have their captions in them."""
    found = []
    for path in listed(reading.folder.root / "figures" / "study", "*.png"):
        name = path.stem.replace("-", " ").capitalize()
        caption = f"Drawn at the study's end, as figures/study/{path.name}."
        found.append(Picture(title=name, caption=caption, image=path.read_bytes()))
    return found[:FILES]


def _losses(cell: Cell) -> Picture | None:
    """Test loss of every prior with its interval, and the seeds."""
    means = {name: own for name, side in cell.sides.items() if (own := mean(list(side.runs.values())))}
    if not means:
        return None
    figure = Figure(figsize=(6.6, 1.1 + 0.34 * len(means)), layout="constrained")
    panel = figure.subplots()
    names = list(means)[::-1]
    for at, name in enumerate(names):
        found, color = means[name], _color(list(cell.sides), name)
        seeds = [run.loss for run in cell.sides[name].runs.values() if run.loss is not None]
        panel.plot(seeds, [at] * len(seeds), "o", color=color, alpha=0.35, markersize=4, linestyle="none")
        if not math.isnan(found.interval.low):
            panel.plot([found.interval.low, found.interval.high], [at, at], color=color, linewidth=2)
        panel.plot(found.value, at, "D", color=color, markersize=6)
    panel.set_yticks(range(len(names)), [f"{name} ({cell.sides[name].chosen})" for name in names])
    panel.set_ylim(-0.6, len(names) - 0.4)
    nothing = _baseline(panel, cell)
    panel.set_xlabel("test loss (nats per label token)")
    _plain(panel)
    return Picture(
        title=f"Test loss by prior, {cell.where}",
        caption="Diamonds are means over seeds at the rate chosen on validation (in brackets), lines their "
        "95% "
        f"intervals (Student's), dots single seeds ({_number(cell.sides.values())}).{nothing}",
        image=_png(figure),
    )


def _baseline(panel: Axes, cell: Cell) -> str:
    """Marks the loss without a prompt, if that does not squeeze all else; what the caption says of it."""
    if cell.baseline is None or cell.baseline.test is None:
        return ""
    loss = cell.baseline.test.loss
    low, high = panel.get_xlim()
    if loss > high + 2 * (high - low):
        return f" Without a prompt the loss is {loss:.3f}, off the right end."
    panel.axvline(loss, color="#666666", linestyle="--", linewidth=1)
    return f" The dashed line is the loss without a prompt, {loss:.3f}."


def _curves(cell: Cell) -> Picture | None:
    """Validation loss by step, mean and 95% interval over seeds."""
    figure = Figure(figsize=(6.6, 3.4), layout="constrained")
    panel = figure.subplots()
    drawn = 0
    for name, side in cell.sides.items():
        steps, losses = _validation(side.runs.values())
        if not steps:
            continue
        drawn += 1
        at = list(cell.sides).index(name)
        color = _color(list(cell.sides), name)
        marker = MARKERS[at // len(COLORS) % len(MARKERS)]
        panel.plot(steps, losses.mean(0), color=color, marker=marker, markersize=4, label=name)
        low, high = ends_over_seeds(losses.T)
        if not np.isnan(low).any():
            panel.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
    if not drawn:
        return None
    # A few seeds that differ by much give bands that reach far below any loss; the means decide the range.
    heights = np.concatenate([line.get_ydata() for line in panel.get_lines()])
    pad = 0.08 * (heights.max() - heights.min() or 1)
    panel.set_ylim(heights.min() - pad, heights.max() + pad)
    panel.set_xlabel("optimizer steps")
    panel.set_ylabel("validation loss (nats)")
    panel.legend(frameon=False, fontsize=8, ncols=2)
    _plain(panel)
    return Picture(
        title=f"Learning curves by prior, {cell.where}",
        caption="Mean validation loss at the rate chosen on validation, and as bands its 95% interval over "
        "seeds "
        f"(Student's; {_number(cell.sides.values())}), cut off where they leave the range of the means. Step "
        "0 is "
        "the untrained sample.",
        image=_png(figure),
    )


def _validation(runs: Iterable[Run]) -> tuple[list[int], np.ndarray]:
    """Steps at which all seeds were evaluated, and losses `[seed, step]`."""
    tables = [{score.step: score.loss for score in run.record.validation} for run in runs]
    tables = [table for table in tables if table]
    if not tables:
        return [], np.empty((0, 0))
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    return steps, np.array([[table[step] for step in steps] for table in tables])


def _number(sides: Iterable[Side]) -> str:
    counts = {len(side.runs) for side in sides}
    if len(counts) == 1:
        return f"n = {counted(min(counts), 'seed')} per prior"
    return f"n = {min(counts)} to {max(counts)} seeds per prior"


def _color(names: list[str], name: str) -> str:
    return COLORS[names.index(name) % len(COLORS)]


def _plain(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="x", color="#eeeeee")
    panel.set_axisbelow(True)


def _png(figure: Figure) -> bytes:
    with io.BytesIO() as stream:
        figure.savefig(stream, format="png", dpi=150)
        return stream.getvalue()
