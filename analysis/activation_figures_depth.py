"""Findings over depth, one curve per task or pair of tasks, and the means of a task's groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from analysis.activation_figures_common import (
    NORMAL,
    SMALL,
    TITLE,
    WIDTH,
    look,
    save,
    sites_of_groups,
    spread_over,
    tidy,
)
from analysis.figures import PATH
from softprior.activations.findings.claims import Ratio, between, over_null, radii
from softprior.statistics.units import VOCABULARY

LABELS = 7
"""Sites that are named below an axis."""

DEPTH = "activations-depth.png"
"""The file of the curves, which is drawn last."""

MAPS = 3
"""Sites whose distances between groups are shown."""


class Curve(NamedTuple):
    """One panel over depth.

    Attributes:
        title: what it shows.
        pairs: whether curves are for pairs of tasks and not for tasks.
        number: at one site, with its interval if it has one.
        second: another number without interval, drawn dotted.
        null: the value to compare with.
        logarithmic: the axis.
    """

    title: str
    pairs: bool
    number: Callable[[Mapping[str, Any]], Ratio | None]
    second: Callable[[Mapping[str, Any]], Ratio | None] | None = None
    null: float | None = None
    logarithmic: bool = False


def _plain(name: str, found: Mapping[str, Any]) -> Ratio | None:
    value = found.get(name)
    return None if value is None else Ratio(value, math.nan, math.nan)


def _accuracy(found: Mapping[str, Any]) -> Ratio | None:
    values = found.get("probe") or {}
    if values.get("accuracy") is None:
        return None
    low, high = (math.nan if values.get(end) is None else values[end] for end in ("low", "high"))
    return Ratio(values["accuracy"], low, high)


CURVES = (
    Curve(
        "norm: median (dotted: 95% quantile)",
        False,
        partial(_plain, "norm"),
        partial(_plain, "norm_95"),
        logarithmic=True,
    ),
    Curve(
        "participation ratio (dotted: with sinks)",
        False,
        partial(_plain, "participation"),
        partial(_plain, "participation_with_sinks"),
        logarithmic=True,
    ),
    Curve("MMD$^2$ between tasks", True, between, null=0.0),
    Curve("held-out probe: balanced accuracy", True, _accuracy, null=0.5),
    Curve("trace of a text / its null", False, partial(over_null, name="trace"), null=1.0),
    Curve("step of a text / shuffled", False, partial(over_null, name="step"), null=1.0),
    Curve("trace of an answer / a random span", False, partial(over_null, name="answer"), null=1.0),
    Curve("spread of radii / a Gaussian's", False, radii, null=1.0),
)


def draw_depth(found: Mapping[str, Any], folder: Path) -> Path:
    """Draws what changes with depth, bands being 95% intervals; returns the file.

    Args:
        found: what `findings` computes, or its file.
    """
    sites = along_depth(found["sites"])
    tasks = {task: own for task, own in found["tasks"].items() if task != VOCABULARY}
    figure = Figure(figsize=(WIDTH, 8.4), layout="constrained")
    panels = figure.subplots(-(-len(CURVES) // 2), 2).flatten()
    for panel, curve in zip(panels, CURVES, strict=True):
        for i, (name, own) in enumerate((found["pairs"] if curve.pairs else tasks).items()):
            _draw(panel, sites, name, own, curve, i + len(tasks) * curve.pairs)
        if not panel.lines:
            panel.text(0.5, 0.5, "no numbers", fontsize=NORMAL, ha="center", transform=panel.transAxes)
            panel.set_yticks([])
        elif curve.null is not None:
            panel.axhline(curve.null, color=PATH, linewidth=0.8, zorder=0)
        if curve.logarithmic and panel.lines:
            panel.set_yscale("log")
            panel.yaxis.set_major_formatter(LogFormatter())
            panel.yaxis.set_minor_formatter(LogFormatter())
        panel.set_title(curve.title, fontsize=TITLE)
        _name_sites(panel, sites)
    named = [panel.get_legend_handles_labels() for panel in panels]
    by_name = {name: line for lines, names in named for line, name in zip(lines, names, strict=True)}
    figure.legend(
        list(by_name.values()),
        list(by_name),
        loc="outside lower center",
        ncols=3,
        fontsize=NORMAL,
        frameon=False,
    )
    return save(figure, folder / DEPTH)


def along_depth(sites: Sequence[str]) -> list[str]:
    """The sites along an axis, with an empty place between an encoder and its decoder: no line joins them."""
    places: list[str] = []
    for site in sites:
        if places and _stack(site) != _stack(places[-1]):
            places.append("")
        places.append(site)
    return places


def _stack(site: str) -> str:
    return site.partition(".")[0] if site.startswith(("encoder.", "decoder.")) else ""


def _draw(
    panel: Axes, sites: Sequence[str], name: str, own: Mapping[str, Any], curve: Curve, index: int
) -> None:
    colour, marker = look(index)
    values = np.full((len(sites), 4), np.nan)
    for i, site in enumerate(sites):
        here = own.get(site, {})
        found, second = curve.number(here), None if curve.second is None else curve.second(here)
        if found is not None:
            values[i, :3] = found[:3]
        if second is not None:
            values[i, 3] = second.value
    if np.isnan(values[:, 0]).all():
        return
    at = np.arange(len(sites))
    panel.plot(at, values[:, 0], color=colour, marker=marker, markersize=3, linewidth=1, label=name)
    panel.fill_between(at, values[:, 1], values[:, 2], color=colour, alpha=0.2, linewidth=0)
    if curve.second is not None:
        panel.plot(at, values[:, 3], color=colour, linewidth=1.2, linestyle=":")


def _name_sites(panel: Axes, sites: Sequence[str]) -> None:
    named = spread_over([site for site in sites if site], LABELS)
    panel.set_xticks([sites.index(site) for site in named], named, rotation=30, ha="right")
    panel.set_xlim(-0.5, len(sites) - 0.5)
    tidy(panel)


def draw_groups(task: str, sites: Mapping[str, Any], folder: Path) -> Path | None:
    """Draws how far the groups of a task lie apart, at some sites and over depth; returns the file, if any.

    Args:
        sites: its part of the findings' `groups`.
    """
    known = {site: sites[site] for site in sites_of_groups(sites)}
    if not known:
        return None
    figure = Figure(figsize=(WIDTH, 6.6), layout="constrained")
    panels = figure.subplots(2, 2).flatten()
    shown = spread_over(list(known), MAPS)
    largest = max(max(map(max, known[site]["distances"])) for site in shown)
    for panel, site in zip(panels, shown, strict=False):
        _map(panel, site, known[site], largest)
    for panel in panels[len(shown) : MAPS]:
        panel.set_axis_off()
    _draw_share(panels[MAPS], along_depth(list(known)), known)
    figure.suptitle(
        f"{task}: distances between means of groups; 1 is a token's (root mean square) from the mean",
        fontsize=NORMAL,
    )
    return save(figure, folder / f"activations-groups-{task}.png")


def _map(panel: Axes, site: str, found: Mapping[str, Any], largest: float) -> None:
    values = np.array(found["distances"])
    panel.imshow(values, cmap="cividis", vmin=0, vmax=largest)
    for row, column in np.ndindex(values.shape):
        if row != column:
            # White on the dark half of the palette.
            colour = "white" if values[row, column] < largest / 2 else "black"
            text = f"{values[row, column]:.2f}".removeprefix("0")
            panel.text(column, row, text, fontsize=6, color=colour, ha="center", va="center")
    names = [name.replace("_", " ") for name in found["names"]]
    panel.set_yticks(range(len(names)), names)
    panel.set_xticks(range(len(names)), names, rotation=45, ha="right")
    panel.set_title(site, fontsize=TITLE)
    panel.tick_params(labelsize=SMALL, length=0)


def _draw_share(panel: Axes, sites: Sequence[str], known: Mapping[str, Any]) -> None:
    curves = {name: [known.get(site, {}).get(name) for site in sites] for name in ("share", "null_high")}
    numbers = {name: [math.nan if v is None else v for v in values] for name, values in curves.items()}
    colour, marker = look(0)
    panel.plot(numbers["share"], color=colour, marker=marker, markersize=3, linewidth=1, label="groups")
    panel.plot(numbers["null_high"], color=PATH, linestyle="--", linewidth=1, label="shuffled: 95% below")
    panel.set_ylim(0, 1)
    panel.set_title("variance of text means between groups", fontsize=TITLE)
    if np.isnan(numbers["share"]).all():
        note = str(known[sites[0]].get("note", ""))
        panel.text(0.5, 0.5, note, transform=panel.transAxes, fontsize=SMALL, ha="center", wrap=True)
    else:
        panel.legend(fontsize=SMALL, frameon=False)
    _name_sites(panel, sites)
