"""Figures of a search: how it went, where each parameter was good, and which of them mattered."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softprior.inputs.labels import counted
from softprior.results.files import write_atomically
from softprior.results.folder import StudyFolder
from softprior.results.storage import Location
from softprior.studies.search.summary import Point, Summary

matplotlib.use("Agg")

BLUE, GREY, ORANGE = "#0072B2", "#999999", "#D55E00"
"""Okabe and Ito's palette, as in the figures of trials: told apart by the colour-blind and in grey print."""

COLUMNS = 4
"""Panels side by side."""

LETTERS = 18
"""Longest label of a choice below an axis."""


def draw_search(summary: Summary, folder: StudyFolder, name: str) -> list[Location]:
    """Draws history, slices and importances; returns the files. Nothing without a finished point."""
    told = [point for point in summary.points if point.values]
    if not told:
        return []
    paths = [
        _saved(_history(summary, told, name), folder.search / "history.png"),
        _saved(_slices(summary, told, name), folder.search / "slices.png"),
    ]
    if any(summary.importances):
        paths.append(_saved(_importances(summary, name), folder.search / "importances.png"))
    if len(summary.objectives) > 1 and summary.best:
        paths.append(_saved(_front(summary, name), folder.search / "front.png"))
    return paths


def _saved(figure: Figure, target: Location) -> Location:
    write_atomically(target, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))
    return target


def _grid(panels: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(panels, COLUMNS)
    rows = -(-panels // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flatten())
    for panel in axes[panels:]:
        panel.set_axis_off()
    return figure, axes


def _history(summary: Summary, told: list[Point], name: str) -> Figure:
    figure, axes = _grid(len(summary.objectives), 5.2, 3.8)
    for i, (objective, panel) in enumerate(zip(summary.objectives, axes, strict=False)):
        for state, color, label, marker in (
            ("complete", BLUE, "finished", "o"),
            ("pruned", GREY, "stopped early", "x"),
        ):
            points = [p for p in told if p.state == state]
            if points:
                numbers, values = [p.number for p in points], [p.values[i] for p in points]
                panel.scatter(numbers, values, s=18, color=color, label=label, marker=marker, zorder=3)
        done = [p for p in told if p.state == "complete"]
        if done:
            best = np.minimum.accumulate([p.values[i] for p in done])
            panel.step([p.number for p in done], best, where="post", color=ORANGE, label="lowest so far")
        panel.set_xlabel("proposal")
        panel.set_ylabel(objective)
    axes[0].legend(loc="best", fontsize=8, frameon=False)
    figure.suptitle(f"{name} · {counted(len(told), 'proposal')}", fontsize=10)
    return figure


def _slices(summary: Summary, told: list[Point], name: str) -> Figure:
    """The first objective against every parameter, among the points that have it."""
    names = list(dict.fromkeys(parameter for point in told for parameter in point.params))
    figure, axes = _grid(len(names), 3.6, 3.2)
    for i, (parameter, panel) in enumerate(zip(names, axes, strict=False)):
        points = [point for point in told if parameter in point.params]
        _slice(panel, parameter, points, parameter in summary.logs)
        panel.set_ylabel(summary.objectives[0] if i % COLUMNS == 0 else "")
    figure.suptitle(f"{name} · darker points came later, crosses were stopped early", fontsize=10)
    return figure


def _slice(panel: Axes, parameter: str, points: list[Point], log: bool) -> None:
    given = [point.params[parameter] for point in points]
    last = points[-1].number
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in given):
        places = given
        if log:
            panel.set_xscale("log")
    else:
        choices = sorted({_text(value) for value in given})
        places = [choices.index(_text(value)) for value in given]
        panel.set_xticks(range(len(choices)), choices, rotation=60, ha="right", fontsize=7)
    for state, marker in (("complete", "o"), ("pruned", "x")):
        own = [
            (place, p.values[0], p.number)
            for place, p in zip(places, points, strict=True)
            if p.state == state
        ]
        if own:
            x, y, order = zip(*own, strict=True)
            panel.scatter(x, y, c=order, cmap="Blues", vmin=-last, vmax=last, s=20, marker=marker)
    panel.set_xlabel(parameter, fontsize=8)


def _text(value: object) -> str:
    text = str(value)
    return text if len(text) <= LETTERS else f"{text[:LETTERS]}…"


def _importances(summary: Summary, name: str) -> Figure:
    rows = max(map(len, summary.importances))
    figure, axes = _grid(len(summary.objectives), 5.2, max(2.2, 0.3 * rows + 1))
    for objective, found, panel in zip(summary.objectives, summary.importances, axes, strict=False):
        order = sorted(found, key=lambda parameter: found[parameter])
        panel.barh(order, [found[parameter] for parameter in order], color=BLUE)
        panel.set_xlabel(f"share in what tells good points apart: {objective}", fontsize=8)
        panel.tick_params(axis="y", labelsize=8)
    figure.suptitle(f"{name} · importance of parameters (PED-ANOVA)", fontsize=10)
    return figure


def _front(summary: Summary, name: str) -> Figure:
    """The first two objectives against each other."""
    figure, (panel, *_) = _grid(1, 5.2, 4.2)
    done = [point for point in summary.points if point.state == "complete"]
    panel.scatter(
        [p.values[0] for p in done], [p.values[1] for p in done], s=18, color=GREY, label="finished"
    )
    best = [point.values for point in summary.best]
    panel.scatter(
        [v[0] for v in best], [v[1] for v in best], s=30, color=ORANGE, label="beaten by none in all"
    )
    panel.set_xlabel(summary.objectives[0])
    panel.set_ylabel(summary.objectives[1])
    panel.legend(loc="best", fontsize=8, frameon=False)
    figure.suptitle(name, fontsize=10)
    return figure
