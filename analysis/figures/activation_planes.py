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
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from analysis.figures.activation_prompts import Followed, draw_prompts, followed_prompts, prompt_legend
from analysis.figures.palette import BACKGROUND, TEXT, look
from analysis.figures.style import NORMAL, PANELS, TITLE, fit_window, page, save, spread_over
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

PERPLEXITY, SEED = 30.0, 0
"""Seed of t-SNE. Each site takes random numbers of its own, derived from it."""

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
    keys = [*_keys(tasks, VOCABULARY in found.tasks), *prompt_legend(found, len(tasks))]
    figure, panels = page(len(sites), _caption(kind, bool(tasks)), height=2.45, keys=keys)
    for panel, site in zip(panels, sites, strict=True):
        report(f"{kind} of {site}")
        clouds = {task: _cloud(store, task, site, texts[task]) for task in read if site in read[task]}
        count = sum(len(cloud.vectors) for cloud in clouds.values())
        if count < LEAST:
            panel.set_title(f"{site}: nothing to draw", fontsize=TITLE)
            panel.set_axis_off()
            continue
        _draw(panel, site, clouds, tasks, followed_prompts(store, site, found), kind)
        panel.set_title(f"{site} (n = {count:,})", fontsize=TITLE)
    return save(figure, folder / f"activations-{kind}.png")


def _caption(kind: Embedding, paths: bool) -> str:
    what = (
        "Principal components of the sampled tokens"
        if kind == "pca"
        else f"t-SNE of the sampled tokens (perplexity {PERPLEXITY:g}, seed {SEED})"
    )
    text = f"{what}, a plane for each site; n tokens, at most {POINTS} per task."
    if kind == "pca":
        text += " A few tokens far out lie outside the panels and are counted there."
    else:
        text += " Only neighbours mean something: distances between clusters and their sizes do not."
    return text + (f" Lines: the last {STEPS} tokens of one text per task." if paths else "")


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
    start, all_points, ends = 0, [], []
    for task, cloud in clouds.items():
        points, path = np.split(
            flat[start : start + len(cloud.vectors) + len(cloud.path)], [len(cloud.vectors)]
        )
        start += len(points) + len(path)
        all_points.append(points)
        if task == VOCABULARY:
            x, y = points.T
            panel.scatter(x, y, s=2, color=BACKGROUND, linewidths=0, zorder=1, rasterized=True)
            continue
        ends.append(path[cloud.path_parts == ANSWER])
        _draw_task(panel, cloud, points, path, *look(tasks.index(task))[:2])
    if kind == "pca":
        fit_window(panel, np.concatenate(all_points), np.concatenate([*ends, flat[:0]]))
    draw_prompts(panel, prompts, flat[start:], len(tasks))


def _draw_task(
    panel: Axes,
    cloud: Cloud,
    points: Float[np.ndarray, "N 2"],
    path: Float[np.ndarray, "T 2"],
    colour: str,
    marker: str,
) -> None:
    """Draws a task's tokens over the thin path, which would hide them."""
    answers, ends = cloud.parts == ANSWER, cloud.path_parts == ANSWER
    panel.plot(*path.T, color=colour, linewidth=0.6, alpha=0.5, zorder=1.5)
    x, y = points[~answers].T
    panel.scatter(x, y, s=6, color=colour, marker=marker, alpha=0.45, linewidths=0, zorder=2, rasterized=True)
    x, y = points[answers].T
    panel.scatter(x, y, s=11, color=colour, marker=marker, linewidths=0.4, edgecolors="black", zorder=3)
    x, y = path[ends].T
    panel.scatter(x, y, s=34, color=colour, marker="*", linewidths=0.5, edgecolors="black", zorder=4)


def _tsne(vectors: Float[np.ndarray, "N D"], site: str) -> Float[np.ndarray, "N 2"]:
    """On the first 50 components, as its authors do; repeated tokens are moved apart by rounding alone."""
    short = PCA(min(50, *vectors.shape), random_state=0).fit_transform(vectors)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    seed = derive(SEED, "tsne", site) % 2**32
    flat: np.ndarray = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(short)
    return flat


def _keys(tasks: list[str], vocabulary: bool) -> list[Line2D]:
    handles = []
    for i, task in enumerate(tasks):
        colour, marker, _ = look(i)
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=4, linewidth=1, label=task))
    if vocabulary:
        point = Line2D([], [], color=BACKGROUND, marker="o", markersize=4, linewidth=0, label="vocabulary")
        handles.append(point)
    grey = partial(Line2D, [], [], color=TEXT, markeredgecolor="black", markeredgewidth=0.5)
    return [
        *handles,
        grey(marker="o", markersize=4, linewidth=0, label="answer token"),
        grey(linewidth=0.8, label=f"last {STEPS} tokens of a text"),
        grey(marker="*", markersize=8, linewidth=0, label="its answer"),
    ]
