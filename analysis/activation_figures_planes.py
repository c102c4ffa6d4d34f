"""Activations in a plane: principal components and t-SNE of tasks and vocabulary, with texts as paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from analysis.activation_figures_common import (
    NORMAL,
    PANELS,
    SMALL,
    TITLE,
    VOCABULARY_COLOUR,
    WIDTH,
    look,
    save,
    spread_over,
    tidy,
)
from softprior.activations.findings import ALL, residual_sites
from softprior.activations.texts import VOCABULARY
from softprior.seeding import derive
from softprior.statistics.store import load_statistics, load_tables
from softprior.tasks.parts import PARTS

POINTS = 300
"""Sampled tokens of a task that a panel shows at most: more would hide one another, and t-SNE takes longer."""

STEPS = 24
"""Tokens of a path at most, its last ones: the answer stands at the end."""

COLUMNS = 3

ANSWER = PARTS.index("answer")

Embedding = Literal["pca", "tsne"]


@dataclass(frozen=True)
class Cloud:
    """What a panel shows of one task.

    Attributes:
        vectors: sampled tokens.
        parts: of each, an index into `PARTS`.
        path: the tokens of one whole text, in its order; none of the vocabulary.
        path_parts: of each.
    """

    vectors: Float[np.ndarray, "N D"]
    parts: Int[np.ndarray, "N"]
    path: Float[np.ndarray, "T D"]
    path_parts: Int[np.ndarray, "T"]


def draw_planes(store: Path, folder: Path, kind: Embedding, report: Callable[[str], None]) -> Path:
    """Draws at most `PANELS` sites spread over depth; returns the file.

    Args:
        report: told each site before it is embedded.
    """
    of_task = residual_sites(store)
    tasks = [task for task in of_task if task != VOCABULARY]
    sites = spread_over(of_task[tasks[0]], PANELS)
    rows, columns = -(-len(sites) // COLUMNS), min(COLUMNS, len(sites))
    figure = Figure(figsize=(WIDTH, 2.45 * rows + 0.55), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, site in zip(panels, sites, strict=False):
        report(site)
        here = [task for task in of_task if site in of_task[task]]
        clouds = {task: _cloud(store, task, site) for task in here}
        _draw(panel, site, clouds, tasks, kind)
    for panel in panels[len(sites) :]:
        panel.set_axis_off()
    handles = _legend(tasks, VOCABULARY in of_task)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=NORMAL, frameon=False)
    return save(figure, folder / f"activations-{kind}.png")


def _cloud(store: Path, task: str, site: str) -> Cloud:
    found = load_statistics(store, task, site, ALL, None)
    paths = load_tables(store, task, site).paths
    vectors = found.sample[:POINTS].numpy()
    parts = found.facts.get("part")
    path, path_parts = vectors[:0], np.zeros(0, dtype=np.int64)
    if paths:
        texts, lengths = paths["text"].unique(return_counts=True)
        # The shortest text that fills a path, else the longest: long ones are cut, and lose their question.
        enough = lengths >= STEPS
        order = lengths.where(enough, lengths.max() + STEPS - lengths)
        rows = (paths["text"] == texts[order.argmin()]).nonzero()[:, 0]
        rows = rows[paths["position"][rows].argsort()][-STEPS:]
        path, path_parts = paths["vectors"][rows].float().numpy(), paths["part"][rows].numpy()
    no_parts = np.zeros(len(vectors), dtype=np.int64)
    return Cloud(vectors, no_parts if parts is None else parts[:POINTS].numpy(), path, path_parts)


def _draw(panel: Axes, site: str, clouds: Mapping[str, Cloud], tasks: list[str], kind: Embedding) -> None:
    stacked = np.concatenate([part for cloud in clouds.values() for part in (cloud.vectors, cloud.path)])
    if kind == "pca":
        # Samples alone decide the plane: a path is one text, whose tokens lie close together.
        pca = PCA(2, random_state=0).fit(np.concatenate([cloud.vectors for cloud in clouds.values()]))
        flat = pca.transform(stacked)
        first, second = pca.explained_variance_ratio_
        panel.set_xlabel(f"PC 1 ({first:.0%} of variance)", fontsize=NORMAL)
        panel.set_ylabel(f"PC 2 ({second:.0%})", fontsize=NORMAL)
    else:
        flat = _tsne(stacked, site)
        panel.set_xlabel("t-SNE 1", fontsize=NORMAL)
        panel.set_ylabel("t-SNE 2", fontsize=NORMAL)
        panel.set_xticks([])
        panel.set_yticks([])
    start = 0
    for task, cloud in clouds.items():
        points, path = np.split(
            flat[start : start + len(cloud.vectors) + len(cloud.path)], [len(cloud.vectors)]
        )
        start += len(points) + len(path)
        if task == VOCABULARY:
            panel.scatter(*points.T, s=2, color=VOCABULARY_COLOUR, linewidths=0, zorder=1, rasterized=True)
            continue
        colour, marker = look(tasks.index(task))
        answers = cloud.parts == ANSWER
        style = {"marker": marker, "linewidths": 0, "zorder": 2, "rasterized": True}
        panel.scatter(*points[~answers].T, s=5, color=colour, alpha=0.45, **style)
        style |= {"linewidths": 0.5, "edgecolors": "black", "zorder": 3}
        panel.scatter(*points[answers].T, s=10, color=colour, **style)
        panel.plot(*path.T, color="white", linewidth=1.8, zorder=4)
        panel.plot(*path.T, color=colour, linewidth=0.9, zorder=5)
        ends = cloud.path_parts == ANSWER
        panel.scatter(
            *path[ends].T, s=26, color=colour, marker="*", linewidths=0.4, edgecolors="black", zorder=6
        )
    panel.set_title(site, fontsize=TITLE)
    tidy(panel)


def _tsne(vectors: Float[np.ndarray, "N D"], site: str) -> Float[np.ndarray, "N 2"]:
    """On the first 50 components, as its authors do; repeated tokens are moved apart by rounding alone."""
    short = PCA(min(50, *vectors.shape), random_state=0).fit_transform(vectors)
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    seed = derive(0, "tsne", site) % 2**32
    flat: np.ndarray = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(short)
    return flat


def _legend(tasks: list[str], vocabulary: bool) -> list[Line2D]:
    handles = []
    for i, task in enumerate(tasks):
        colour, marker = look(i)
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=4, linewidth=1, label=task))
    if vocabulary:
        point = Line2D(
            [], [], color=VOCABULARY_COLOUR, marker="o", markersize=4, linewidth=0, label="vocabulary"
        )
        handles.append(point)
    grey = {"color": "#777777", "markeredgecolor": "black"}
    return [
        *handles,
        Line2D([], [], marker="o", markersize=4, linewidth=0, label="answer token", **grey),
        Line2D([], [], marker="", linewidth=1.2, label="one text", color="#777777"),
        Line2D([], [], marker="*", markersize=6, linewidth=0, label="its answer", **grey),
    ]
