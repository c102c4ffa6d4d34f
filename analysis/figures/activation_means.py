"""Mean activations of the groups of a task (the modules of `arithmetic`) as points in a plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA

from analysis.figures.activation_groups import groups_apart
from analysis.figures.palette import TEXT, look
from analysis.figures.style import NORMAL, PANELS, TITLE, fit_window, limits, page, save, spread_over
from softprior.activations.findings.common import MEAN
from softprior.activations.findings.groups import GroupFindings
from softprior.statistics.store import load_statistics, load_tables

TEXTS = 400
"""Most means of texts in a panel: more hide one another."""

SPANNED = 3
"""Means that two components always show whole: how much of their variance is no finding."""


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
    return spread_over(groups_apart(sites), PANELS)


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
    planes = {site: plane_of_means(store, task, site) for site in shown}
    figure, panels = page(
        len(shown),
        _caption(planes, len(names)),
        height=2.45,
        keys=_keys(names),
        title=f"{task}: principal components of the means of its groups",
    )
    for panel, site in zip(panels, shown, strict=True):
        report(f"means of {task} at {site}")
        _draw(panel, planes[site], names)
        panel.set_title(site, fontsize=TITLE)
    return save(figure, folder / f"activations-means-{task}.png")


def _caption(planes: Mapping[str, Plane], groups: int) -> str:
    counts = sorted({len(plane.texts) for plane in planes.values()})
    n = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
    texts = f"small ones of single texts (n = {n} per panel)" if counts[-1] else "of no single texts"
    text = f"Large marks are means of {groups} groups, {texts}. "
    if groups <= SPANNED:
        return text + f"{groups} means always lie in the components shown, so these have no shares."
    return text + "Shares are of the variance between the means of groups, not of that of texts or tokens."


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
        colour, marker, _ = look(number)
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
    shares = [
        "" if len(plane.names) <= SPANNED else f" ({share:.0%} between means)" for share in plane.explained
    ]
    panel.set_xlabel(f"PC 1{shares[0]}", fontsize=NORMAL)
    if flat:
        panel.set_xlim(*limits(plane.texts[:, 0], plane.groups[:, 0]))
        panel.set_ylim(-0.5, len(names) - 0.5)
        panel.set_yticks([])
    else:
        fit_window(panel, plane.texts, plane.groups)
        panel.set_ylabel(f"PC 2{shares[1].replace(' between means', '')}", fontsize=NORMAL)


def _keys(names: Sequence[str]) -> list[Line2D]:
    handles = []
    for number, name in enumerate(names):
        colour, marker, _ = look(number)
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
    text = Line2D([], [], color=TEXT, marker="o", markersize=2.5, linewidth=0, label="mean of a text")
    return [*handles, text]
