"""Figures of a search: how it went, where each parameter was good, and which of them mattered."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures.palette import BLUE, LINE, ORANGE
from analysis.figures.style import NORMAL, PAGE, SMALL, limits, logarithmic, page, save
from softprior.inputs.labels import counted
from softprior.results.folder import StudyFolder
from softprior.results.storage import Location
from softprior.studies.search.summary import ENOUGH, Point, Summary

SIDE = 3
"""Slices side by side."""

LETTERS = 18
"""Longest label of a choice below an axis."""

STATES = (("complete", "o", "finished"), ("pruned", "x", "stopped early"))


def draw_search(summary: Summary, folder: StudyFolder, name: str) -> list[Location]:
    """Draws history, slices and importances; returns the files. Nothing without a finished point."""
    told = [point for point in summary.points if point.values]
    if not told:
        return []
    paths = [
        save(history(summary, name), folder.search / "history.png"),
        save(slices(summary, name), folder.search / "slices.png"),
    ]
    if any(summary.importances):
        paths.append(save(importances(summary, name), folder.search / "importances.png"))
    if len(summary.objectives) > 1 and summary.best:
        paths.append(save(front(summary, name), folder.search / "front.png"))
    return paths


def _told(summary: Summary) -> list[Point]:
    return [point for point in summary.points if point.values]


def _counts(summary: Summary) -> str:
    """The number of proposals by what became of them."""
    states = [point.state for point in summary.points]
    words = {"complete": "finished", "pruned": "stopped early", "fail": "failed", "running": "still running"}
    known = ", ".join(f"{states.count(s)} {word}" for s, word in words.items() if s in states)
    return f"{counted(len(states), 'proposal')}: {known}."


def history(summary: Summary, name: str) -> Figure:
    """Every objective over the proposals, with the lowest value so far."""
    told, done = _told(summary), summary.finished
    keys: list[Line2D] = [
        Line2D([], [], color=colour, marker=marker, markersize=5, linewidth=0, label=label)
        for (state, marker, label), colour in zip(STATES, (BLUE, LINE), strict=True)
        if any(point.state == state for point in told)
    ]
    if done:
        keys.append(Line2D([], [], color=ORANGE, linewidth=1.2, label="lowest so far"))
    figure, panels = page(
        len(summary.objectives), _counts(summary), height=2.8, columns=2, keys=keys, title=name
    )
    for i, (objective, panel) in enumerate(zip(summary.objectives, panels, strict=True)):
        for (state, marker, _), colour in zip(STATES, (BLUE, LINE), strict=True):
            own = [(p.number, p.values[i]) for p in told if p.state == state]
            if own:
                numbers, values = zip(*own, strict=True)
                panel.scatter(numbers, values, s=18, color=colour, marker=marker, zorder=3)
        if done:
            best = np.minimum.accumulate([p.values[i] for p in done])
            panel.step([p.number for p in done], best, where="post", color=ORANGE, linewidth=1.2)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_xlabel("proposal", fontsize=NORMAL)
        panel.set_ylabel(objective, fontsize=NORMAL)
    return figure


def slices(summary: Summary, name: str) -> Figure:
    """The first objective against every parameter, among the points that have it, all on one axis."""
    told = _told(summary)
    names = list(dict.fromkeys(parameter for point in told for parameter in point.params))
    caption = (
        f"{_counts(summary)} Each panel has the proposals with that parameter. Darker points came later, "
        "crosses were stopped early and show their last value."
    )
    figure, panels = page(len(names), caption, height=2.2, columns=SIDE, title=name, sharey=True)
    last = max(point.number for point in told)
    for i, (parameter, panel) in enumerate(zip(names, panels, strict=True)):
        points = [point for point in told if parameter in point.params]
        _slice(panel, parameter, points, parameter in summary.logs, last)
        panel.set_ylabel(summary.objectives[0] if i % SIDE == 0 else "", fontsize=NORMAL)
        panel.set_title(f"n = {len(points)}", fontsize=SMALL, loc="right")
    panels[0].set_ylim(*limits(np.array([point.values[0] for point in told])))
    return figure


def _slice(panel: Axes, parameter: str, points: list[Point], log: bool, last: int) -> None:
    given = [point.params[parameter] for point in points]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in given):
        places = np.array(given, dtype=float)
        if log:
            logarithmic(panel.xaxis, places.min(), places.max(), most=4)
        else:
            panel.xaxis.set_major_locator(MaxNLocator(4, integer=all(isinstance(v, int) for v in given)))
        if places.min() == places.max():
            panel.set_xticks([places[0]], [f"{places[0]:.4g}"])
    else:
        choices = sorted({_text(value) for value in given})
        places = np.array([choices.index(_text(value)) for value in given], dtype=float)
        panel.set_xticks(range(len(choices)), choices, rotation=45, ha="right")
        panel.set_xlim(-0.5, len(choices) - 0.5)
    for state, marker, _ in STATES:
        own = [
            (place, p.values[0], p.number)
            for place, p in zip(places, points, strict=True)
            if p.state == state
        ]
        if own:
            x, y, order = zip(*own, strict=True)
            panel.scatter(x, y, c=order, cmap="Blues", vmin=-last - 1, vmax=last, s=20, marker=marker)
    panel.set_xlabel(_wrapped(parameter), fontsize=SMALL)


def _text(value: object) -> str:
    text = str(value)
    return text if len(text) <= LETTERS else f"{text[:LETTERS]}…"


def _wrapped(parameter: str) -> str:
    """A parameter's name over as many lines as it needs, broken at dots."""
    lines = [""]
    for word in parameter.split("."):
        if lines[-1] and len(lines[-1]) + len(word) > LETTERS:
            lines.append("")
        lines[-1] += ("." if lines != [""] else "") + word
    return "\n".join(lines)


def importances(summary: Summary, name: str) -> Figure:
    """How much each parameter tells good points from the others, with a caution where points are few."""
    rows = max(map(len, summary.importances))
    done = len(summary.finished)
    caption = (
        f"Importance (PED-ANOVA): share of each parameter in what tells good proposals apart; "
        f"n = {done} finished proposals, {counted(rows, 'parameter')}."
    )
    if summary.chancy:
        caption += (
            f" Caution: fewer than {ENOUGH} finished proposals per parameter. Shares are mostly chance; "
            "do not choose parameters by them."
        )
    height = max(1.6, 0.2 * rows + 0.8)
    figure, panels = page(len(summary.objectives), caption, height=height, columns=1, width=PAGE, title=name)
    for objective, found, panel in zip(summary.objectives, summary.importances, panels, strict=True):
        order = sorted(found, key=lambda parameter: found[parameter])
        faint = 0.45 if summary.chancy else 1.0
        panel.barh(order, [found[parameter] for parameter in order], color=BLUE, alpha=faint, height=0.7)
        panel.set_xlabel(f"share: {objective}", fontsize=NORMAL)
        panel.set_xlim(left=0)
    return figure


def front(summary: Summary, name: str) -> Figure:
    """The first two objectives against each other."""
    keys = [
        Line2D([], [], color=LINE, marker="o", markersize=4, linewidth=0, label="finished"),
        Line2D([], [], color=ORANGE, marker="D", markersize=5, linewidth=0, label="beaten by none in all"),
    ]
    figure, (panel,) = page(1, _counts(summary), width=PAGE / 2, height=2.8, keys=keys, title=name)
    done, best = ([p.values for p in points] for points in (summary.finished, summary.best))
    panel.scatter([v[0] for v in done], [v[1] for v in done], s=18, color=LINE)
    panel.scatter([v[0] for v in best], [v[1] for v in best], s=30, color=ORANGE, marker="D")
    panel.set_xlabel(summary.objectives[0], fontsize=NORMAL)
    panel.set_ylabel(summary.objectives[1], fontsize=NORMAL)
    return figure
