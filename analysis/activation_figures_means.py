"""Mean activations of the groups of a task (the modules of `arithmetic`) as points in a plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA

from analysis.activation_figures_common import (
    COLOURS,
    MARKERS,
    NORMAL,
    PANELS,
    TITLE,
    WIDTH,
    save,
    sites_of_groups,
    spread_over,
    tidy,
)
from softprior.activations.findings.common import MEAN
from softprior.activations.findings.groups import GroupFindings
from softprior.statistics.store import load_statistics, load_tables

COLUMNS = 3

TEXTS = 400
"""Most means of texts in a panel: more hide one another."""

BEYOND = 0.01
"""Share of the texts' means that may lie outside a panel at each side: a few would shrink all others."""

MARGIN = 0.08
"""Margin around what a panel shows, as a share of that."""

SHAPES = (*MARKERS, "X", "*", "<", "p", ">", "h")
"""One per group, for print without colours; after the last they start again in other colours."""


class Plane(NamedTuple):
    """What a panel shows.

    Attributes:
        names: of the groups.
        groups: their means, along the components.
        explained: of the variance between the groups' means, by component. Two groups have one component.
        texts: means of texts.
        of_text: of each, the number of its group among all of the task.
    """

    names: tuple[str, ...]
    groups: Float[np.ndarray, "G K"]
    explained: Float[np.ndarray, "K"]
    texts: Float[np.ndarray, "N K"]
    of_text: Int[np.ndarray, "N"]


def panels_of_means(sites: Mapping[str, GroupFindings]) -> list[str]:
    """The sites that `draw_means` shows."""
    return spread_over(sites_of_groups(sites), PANELS)


def draw_means(
    store: Path, task: str, sites: Mapping[str, GroupFindings], folder: Path, report: Callable[[str], None]
) -> Path | None:
    """Draws the means of a task's groups at some sites, each in its own plane; returns the file, if any.

    Args:
        report: told which site is drawn next.
    """
    shown = panels_of_means(sites)
    if not shown:
        return None
    # A group without tokens at a site is not named there; texts know their group by its number among all.
    names = max((sites[site].names for site in shown), key=len)
    rows, columns = -(-len(shown) // COLUMNS), min(COLUMNS, len(shown))
    legend_rows = -(-(len(names) + 1) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 2.45 * rows + 0.17 * legend_rows + 0.45), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, site in zip(panels, shown, strict=False):
        report(f"means of {task} at {site}")
        _draw(panel, plane_of_means(store, task, site), names)
        panel.set_title(site, fontsize=TITLE)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    figure.suptitle(f"{task}: principal components of the means of its groups", fontsize=NORMAL)
    figure.legend(
        handles=_legend(names), loc="outside lower center", ncols=COLUMNS, fontsize=NORMAL, frameon=False
    )
    return save(figure, folder / f"activations-means-{task}.png")


def plane_of_means(store: Path, task: str, site: str) -> Plane:
    """The plane of the means of a task's groups, two at least, and means of texts projected into it.

    Raises:
        UserError: the file is missing or damaged.
    """
    groups = load_tables(store, task, site).groups
    means = np.stack([mean.double().numpy() for _, mean in groups.values()])
    pca = PCA(min(2, len(means) - 1, means.shape[1]), svd_solver="full").fit(means)
    found = load_statistics(store, task, site, MEAN, None)
    of_text = found.facts.get("group")
    texts = found.sample[: TEXTS if of_text is not None else 0].double().numpy()
    return Plane(
        names=tuple(groups),
        groups=pca.transform(means),
        explained=pca.explained_variance_ratio_,
        texts=(texts - pca.mean_) @ pca.components_.T,
        of_text=np.zeros(0, dtype=np.int64) if of_text is None else of_text[:TEXTS].numpy(),
    )


def _draw(panel: Axes, plane: Plane, names: Sequence[str]) -> None:
    flat = plane.groups.shape[1] == 1
    for number, name in enumerate(names):
        colour, marker = look_of_group(number)
        own = plane.texts[plane.of_text == number]
        # On one component each group has a line of its own.
        height = np.full(len(own), float(number)) if flat else own[:, 1]
        panel.scatter(own[:, 0], height, s=5, color=colour, marker=marker, alpha=0.3, linewidths=0, zorder=1)
        if name in plane.names:
            point = plane.groups[plane.names.index(name)]
            panel.scatter(
                point[0],
                number if flat else point[1],
                s=38,
                color=colour,
                marker=marker,
                linewidths=0.7,
                edgecolors="black",
                zorder=2,
            )
    panel.set_xlim(*_limits(plane.groups[:, 0], plane.texts[:, 0]))
    panel.set_xlabel(f"PC 1 ({plane.explained[0]:.0%} of variance)", fontsize=NORMAL)
    if flat:
        panel.set_ylim(-0.5, len(names) - 0.5)
        panel.set_yticks([])
    else:
        panel.set_ylim(*_limits(plane.groups[:, 1], plane.texts[:, 1]))
        panel.set_ylabel(f"PC 2 ({plane.explained[1]:.0%})", fontsize=NORMAL)
    tidy(panel)


def _limits(groups: Float[np.ndarray, "G"], texts: Float[np.ndarray, "N"]) -> tuple[float, float]:
    """Limits that show all groups and nearly all texts."""
    ends = [groups.min(), groups.max()]
    if len(texts):
        ends += np.quantile(texts, [BEYOND, 1 - BEYOND]).tolist()
    margin = MARGIN * (max(ends) - min(ends))
    return min(ends) - margin, max(ends) + margin


def look_of_group(number: int) -> tuple[str, str]:
    """Colour and marker of the group with this number, a pair of its own for each of the first 72."""
    again, index = divmod(number, len(SHAPES))
    return COLOURS[(number + again) % len(COLOURS)], SHAPES[index]


def _legend(names: Sequence[str]) -> list[Line2D]:
    handles = []
    for number, name in enumerate(names):
        colour, marker = look_of_group(number)
        handles.append(
            Line2D(
                [],
                [],
                color=colour,
                marker=marker,
                markersize=6,
                markeredgecolor="black",
                markeredgewidth=0.7,
                linewidth=0,
                label=name.replace("_", " "),
            )
        )
    text = Line2D([], [], color="#777777", marker="o", markersize=2.5, linewidth=0, label="mean of a text")
    return [*handles, text]
