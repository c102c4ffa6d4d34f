"""Findings over depth, one curve per task or pair of tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from analysis.figures.palette import LINE, Look, look
from analysis.figures.style import NORMAL, TITLE, key, logarithmic, page, save, spread_over
from softprior.activations.findings.pairs import PairFindings
from softprior.activations.findings.ratios import (
    Ratio,
    answer_ratio,
    radii_ratio,
    separation_of,
    step_ratio,
    trace_ratio,
)
from softprior.activations.findings.record import Findings, known
from softprior.activations.findings.sites import SiteFindings
from softprior.statistics.units import VOCABULARY

LABELS = 7
"""Sites that are named below an axis."""

DEPTH = "activations-depth.png"
"""The file of the curves, which is drawn last."""


class Point(NamedTuple):
    """What a curve shows at one site: a number with its interval, and another one that is drawn dotted."""

    number: Ratio | None
    second: float | None = None


Curves = Mapping[str, Mapping[str, Point]]
"""By task (or pair of tasks) and site."""


class Panel(NamedTuple):
    """One panel over depth.

    Attributes:
        title: what it shows.
        curves: taken from findings.
        null: the value to compare with.
        logarithmic: the axis.
    """

    title: str
    curves: Callable[[Findings], Curves]
    null: float | None = None
    logarithmic: bool = False


def _tasks(point: Callable[[SiteFindings], Point]) -> Callable[[Findings], Curves]:
    """One curve per task."""

    def curves(found: Findings) -> Curves:
        tasks = {task: known(sites) for task, sites in found.tasks.items() if task != VOCABULARY}
        return {task: {site: point(own) for site, own in sites.items()} for task, sites in tasks.items()}

    return curves


def _pairs(point: Callable[[PairFindings], Point]) -> Callable[[Findings], Curves]:
    """One curve per pair of tasks."""

    def curves(found: Findings) -> Curves:
        pairs = {pair: known(sites) for pair, sites in found.pairs.items()}
        return {pair: {site: point(own) for site, own in sites.items()} for pair, sites in pairs.items()}

    return curves


def _plain(value: float | None, low: float | None = None, high: float | None = None) -> Ratio | None:
    if value is None:
        return None
    return Ratio(value, math.nan if low is None else low, math.nan if high is None else high)


def _accuracy(found: PairFindings) -> Point:
    return Point(_plain(found.probe.accuracy, found.probe.low, found.probe.high))


OVER_DEPTH = (
    Panel(
        "norm: median (dotted: 95% quantile)",
        _tasks(lambda found: Point(_plain(found.norm), found.norm_95)),
        logarithmic=True,
    ),
    Panel(
        "participation ratio (dotted: with sinks)",
        _tasks(lambda found: Point(_plain(found.participation), found.participation_with_sinks)),
        logarithmic=True,
    ),
    Panel("MMD$^2$ between tasks", _pairs(lambda found: Point(separation_of(found))), null=0.0),
    Panel("held-out probe: balanced accuracy", _pairs(_accuracy), null=0.5),
    Panel("trace of a text / its null", _tasks(lambda found: Point(trace_ratio(found))), null=1.0),
    Panel("step of a text / shuffled", _tasks(lambda found: Point(step_ratio(found))), null=1.0),
    Panel("trace of an answer / a random span", _tasks(lambda found: Point(answer_ratio(found))), null=1.0),
    Panel("spread of radii / a Gaussian's", _tasks(lambda found: Point(radii_ratio(found))), null=1.0),
)


def draw_depth(found: Findings, folder: Path) -> Path:
    """Draws what changes with depth, bands being 95% intervals; returns the file."""
    sites = along_depth(found.sites)
    looks = [*(task for task in found.tasks if task != VOCABULARY), *found.pairs]
    curves = [shown.curves(found) for shown in OVER_DEPTH]
    drawn = [name for name in looks if any(name in own for own in curves)]
    keys = [key(name, look(looks.index(name)), line=True) for name in drawn]
    figure, panels = page(len(OVER_DEPTH), _caption(found), height=2.0, columns=2, keys=keys)
    for panel, shown, own in zip(panels, OVER_DEPTH, curves, strict=True):
        for name, curve in own.items():
            _draw(panel, sites, curve, look(looks.index(name)))
        if not panel.lines:
            panel.text(0.5, 0.5, "no numbers", fontsize=NORMAL, ha="center", transform=panel.transAxes)
            panel.set_yticks([])
        if shown.logarithmic and panel.lines:
            values = np.concatenate([line.get_ydata() for line in panel.lines]).astype(float)
            values = values[np.isfinite(values) & (values > 0)]
            if len(values):
                logarithmic(panel.yaxis, values.min(), values.max())
        if shown.null is not None and panel.lines:
            panel.axhline(shown.null, color=LINE, linewidth=0.8, zorder=0)
        panel.set_title(shown.title, fontsize=TITLE)
        name_sites(panel, sites)
    return save(figure, folder / DEPTH)


def _caption(found: Findings) -> str:
    counts = [site.tokens for sites in found.tasks.values() for site in known(sites).values()]
    tokens = f" on {min(counts):,} to {max(counts):,} tokens per task and site" if counts else ""
    return (
        f"Findings over depth{tokens}. Bands: 95% intervals over documents; curves without a band have no "
        "interval. Grey lines: what the null gives."
    )


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


def _draw(panel: Axes, sites: Sequence[str], curve: Mapping[str, Point], own: Look) -> None:
    colour, marker, dash = own
    values = np.full((len(sites), 4), np.nan)
    for i, site in enumerate(sites):
        if site in curve:
            number, second = curve[site]
            if number is not None:
                values[i, :3] = number[:3]
            if second is not None:
                values[i, 3] = second
    if np.isnan(values[:, 0]).all():
        return
    at = np.arange(len(sites))
    panel.plot(at, values[:, 0], color=colour, marker=marker, markersize=3, linewidth=1, linestyle=dash)
    panel.fill_between(at, values[:, 1], values[:, 2], color=colour, alpha=0.2, linewidth=0)
    if not np.isnan(values[:, 3]).all():
        panel.plot(at, values[:, 3], color=colour, linewidth=1.2, linestyle=":")


def name_sites(panel: Axes, sites: Sequence[str]) -> None:
    """Names some of the sites below an axis of depth."""
    named = spread_over([site for site in sites if site], LABELS)
    panel.set_xticks([sites.index(site) for site in named], named, rotation=30, ha="right")
    panel.set_xlim(-0.5, len(sites) - 0.5)
