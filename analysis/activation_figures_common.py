"""What the figures of a statistics store have in common: colours, sizes, and which sites they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import END, START, TOKENS
from softprior.activations.findings.groups import GroupFindings
from softprior.results.files import write_atomically

matplotlib.use("Agg")

COLOURS = (START, END, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, one per task; after the last they start again."""

VOCABULARY_COLOUR = TOKENS

MARKERS = ("o", "^", "s", "D", "v", "P")
"""Also one per task, for print without colours."""

PANELS = 6
"""Sites that a figure of planes shows at most."""

WIDTH = 7.0
"""Inches: a printed page without its margins."""

SMALL, NORMAL, TITLE = 7, 8, 9
"""Sizes of letters, legible at `WIDTH`."""

DPI = 150


def spread_over(sites: Sequence[str], count: int) -> list[str]:
    """At most `count` of the sites, the first and the last among them, evenly between."""
    if len(sites) <= count:
        return list(sites)
    return [sites[round(i * (len(sites) - 1) / (count - 1))] for i in range(count)]


def look(index: int) -> tuple[str, str]:
    """Colour and marker of the task (or pair of tasks) with this number."""
    return COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]


def sites_of_groups(sites: Mapping[str, GroupFindings]) -> list[str]:
    """The sites at which the means of a task's groups are known and differ."""
    known = {site: found.distances for site, found in sites.items() if found.distances}
    return [site for site, distances in known.items() if np.array(distances).max() > 0]


def tidy(panel: Axes) -> None:
    """Sets one size of letters, and removes the frame where there is no axis."""
    panel.tick_params(which="both", labelsize=SMALL)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def save(figure: Figure, path: Path) -> Path:
    """Writes the figure as PNG."""
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=DPI, format="png"))
    return path
