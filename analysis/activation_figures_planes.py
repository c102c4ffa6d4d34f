"""Activations in a plane: principal components and t-SNE of tasks and vocabulary, with texts as paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
    TITLE,
    VOCABULARY_COLOUR,
    WIDTH,
    look,
    save,
    spread_over,
    tidy,
)
from analysis.activation_figures_prompts import Followed, draw_prompts, followed_prompts, prompt_legend
from softprior.activations.findings.common import ALL
from softprior.activations.findings.record import Findings, known
from softprior.seeding import derive
from softprior.statistics.store import load_statistics, load_tables
from softprior.statistics.units import VOCABULARY
from softprior.tasks.parts import ANSWER

POINTS = 300
"""Most sampled tokens of a task in a panel: more hide one another, and t-SNE takes longer."""

LEAST = 3
"""Points that a plane needs."""

STEPS = 12
"""Most tokens of a path, its last ones: the answer is at the end."""

COLUMNS = 3

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


def draw_planes(
    store: Path, found: Findings, folder: Path, kind: Embedding, report: Callable[[str], None]
) -> Path:
    """Draws at most `PANELS` sites spread over depth; returns the file.

    Args:
        report: told what is embedded next.
    """
    tasks = [task for task in found.tasks if task != VOCABULARY]
    sites = spread_over(found.sites, PANELS)
    read = {task: list(known(own)) for task, own in found.tasks.items()}
    texts = {task: _text(store, task, own[0]) for task, own in read.items() if own}
    rows, columns = -(-len(sites) // COLUMNS), min(COLUMNS, len(sites))
    figure = Figure(figsize=(WIDTH, 2.45 * rows + 0.55), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, site in zip(panels, sites, strict=False):
        report(f"{kind} of {site}")
        clouds = {task: _cloud(store, task, site, texts[task]) for task in read if site in read[task]}
        if sum(len(cloud.vectors) for cloud in clouds.values()) < LEAST:
            panel.set_title(f"{site}: nothing to draw", fontsize=TITLE)
            panel.set_axis_off()
            continue
        _draw(panel, site, clouds, tasks, followed_prompts(store, site, found), kind)
    for panel in panels[len(sites) :]:
        panel.set_axis_off()
    handles = [*_legend(tasks, VOCABULARY in found.tasks), *prompt_legend(found, len(tasks))]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=NORMAL, frameon=False)
    return save(figure, folder / f"activations-{kind}.png")


def _text(store: Path, task: str, site: str) -> int | None:
    """The text that is drawn as a path: the shortest that fills it, else the longest."""
    paths = load_tables(store, task, site).paths
    if not paths:
        return None
    texts, lengths = paths["text"].unique(return_counts=True)
    last = int(lengths.max()) + STEPS
    return int(texts[lengths.where(lengths >= STEPS, last - lengths).argmin()])


def _cloud(store: Path, task: str, site: str, text: int | None) -> Cloud:
    found = load_statistics(store, task, site, ALL, None)
    paths = load_tables(store, task, site).paths
    vectors = found.sample[:POINTS].numpy()
    parts = found.facts.get("part")
    path, path_parts = vectors[:0], np.zeros(0, dtype=np.int64)
    if text is not None and paths:
        rows = (paths["text"] == text).nonzero()[:, 0]
        rows = rows[paths["position"][rows].argsort()][-STEPS:]
        path, path_parts = paths["vectors"][rows].float().numpy(), paths["part"][rows].numpy()
    no_parts = np.zeros(len(vectors), dtype=np.int64)
    return Cloud(vectors, no_parts if parts is None else parts[:POINTS].numpy(), path, path_parts)


def _draw(
    panel: Axes,
    site: str,
    clouds: Mapping[str, Cloud],
    tasks: list[str],
    prompts: Sequence[Followed],
    kind: Embedding,
) -> None:
    texts = [part for cloud in clouds.values() for part in (cloud.vectors, cloud.path)]
    stacked = np.concatenate([*texts, *(prompt.vectors for prompt in prompts)])
    if kind == "pca":
        # Samples alone decide the plane: a path is one text, whose tokens lie close together, and a prompt
        # is no data.
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
            panel.scatter(
                points[:, 0],
                points[:, 1],
                s=2,
                color=VOCABULARY_COLOUR,
                linewidths=0,
                zorder=1,
                rasterized=True,
            )
            continue
        colour, marker = look(tasks.index(task))
        answers, ends = cloud.parts == ANSWER, cloud.path_parts == ANSWER
        panel.scatter(
            points[~answers, 0],
            points[~answers, 1],
            s=6,
            color=colour,
            marker=marker,
            alpha=0.4,
            linewidths=0,
            zorder=2,
            rasterized=True,
        )
        panel.scatter(
            points[answers, 0],
            points[answers, 1],
            s=13,
            color=colour,
            marker=marker,
            linewidths=0.4,
            edgecolors="black",
            zorder=3,
        )
        panel.plot(*path.T, color="white", linewidth=2.0, zorder=4)
        panel.plot(*path.T, color=colour, linewidth=0.8, zorder=5)
        panel.scatter(
            path[ends, 0],
            path[ends, 1],
            s=60,
            color=colour,
            marker="*",
            linewidths=0.5,
            edgecolors="black",
            zorder=6,
        )
    draw_prompts(panel, prompts, flat[start:], flat[:start], len(tasks))
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
    grey = partial(Line2D, [], [], color="#777777", markeredgecolor="black", markeredgewidth=0.5)
    return [
        *handles,
        grey(marker="o", markersize=4, linewidth=0, label="answer token"),
        grey(linewidth=1.0, label=f"last {STEPS} tokens of a text"),
        grey(marker="*", markersize=8, linewidth=0, label="its answer"),
    ]
