"""How far the groups of a task (the modules of `arithmetic`) lie apart, at some sites and over depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.activation_figures_common import (
    NORMAL,
    SMALL,
    TITLE,
    WIDTH,
    look,
    save,
    sites_of_groups,
    spread_over,
)
from analysis.activation_figures_depth import along_depth, name_sites
from analysis.figures import PATH
from softprior.activations.findings.groups import GroupFindings

MAPS = 3
"""Sites whose distances between groups are shown."""


def draw_groups(task: str, sites: Mapping[str, GroupFindings], folder: Path) -> Path | None:
    """Draws how far a task's groups lie apart, at some sites and over depth; returns the file, if any."""
    apart = {site: sites[site] for site in sites_of_groups(sites)}
    if not apart:
        return None
    figure = Figure(figsize=(WIDTH, 6.6), layout="constrained")
    panels = figure.subplots(2, 2).flatten()
    shown = spread_over(list(apart), MAPS)
    largest = max(max(map(max, apart[site].distances)) for site in shown)
    for panel, site in zip(panels, shown, strict=False):
        _map(panel, site, apart[site], largest)
    for panel in panels[len(shown) : MAPS]:
        panel.set_axis_off()
    _draw_share(panels[MAPS], along_depth(list(apart)), apart)
    figure.suptitle(
        f"{task}: distances between means of groups; 1 is a token's (root mean square) from the mean",
        fontsize=NORMAL,
    )
    return save(figure, folder / f"activations-groups-{task}.png")


def _map(panel: Axes, site: str, found: GroupFindings, largest: float) -> None:
    values = np.array(found.distances)
    panel.imshow(values, cmap="cividis", vmin=0, vmax=largest)
    for row, column in np.ndindex(values.shape):
        if row != column:
            # White on the dark half of the palette.
            colour = "white" if values[row, column] < largest / 2 else "black"
            text = f"{values[row, column]:.2f}".removeprefix("0")
            panel.text(column, row, text, fontsize=6, color=colour, ha="center", va="center")
    names = [name.replace("_", " ") for name in found.names]
    panel.set_yticks(range(len(names)), names)
    panel.set_xticks(range(len(names)), names, rotation=45, ha="right")
    panel.set_title(site, fontsize=TITLE)
    panel.tick_params(labelsize=SMALL, length=0)


def _draw_share(panel: Axes, sites: Sequence[str], apart: Mapping[str, GroupFindings]) -> None:
    shares, nulls = np.full(len(sites), np.nan), np.full(len(sites), np.nan)
    for i, site in enumerate(sites):
        if site and apart[site].share is not None:
            shares[i], nulls[i] = apart[site].share, apart[site].null_high
    colour, marker = look(0)
    panel.plot(shares, color=colour, marker=marker, markersize=3, linewidth=1, label="groups")
    panel.plot(nulls, color=PATH, linestyle="--", linewidth=1, label="shuffled: 95% below")
    panel.set_ylim(0, 1)
    panel.set_title("variance of text means between groups", fontsize=TITLE)
    if np.isnan(shares).all():
        note = apart[sites[0]].note
        panel.text(0.5, 0.5, note, transform=panel.transAxes, fontsize=SMALL, ha="center", wrap=True)
    else:
        panel.legend(fontsize=SMALL, frameon=False)
    name_sites(panel, sites)
