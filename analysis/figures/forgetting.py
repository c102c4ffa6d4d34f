"""Forgetting against quality: what a prompt costs on running text, and what it gains on its task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.palette import LINE, Looks
from analysis.figures.settings import CHOSEN, looks_for, prior_keys, seeds_text
from analysis.figures.style import NORMAL, PAGE, TITLE, limits, page
from analysis.findings.forgetting import NUMBER
from analysis.findings.study import Cell, Study
from softprior.inputs.labels import counted


@dataclass(frozen=True, kw_only=True)
class Forgot:
    """One trial.

    Attributes:
        loss: test loss on its task, in nats.
        forgetting: loss on running text with the prompt minus without, in nats; below 0 it helps there too.
    """

    prior: str
    seed: int
    loss: float
    forgetting: float


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """One cell of a study."""

    where: str
    trials: tuple[Forgot, ...]

    def means(self) -> dict[str, tuple[float, float]]:
        """Mean loss and mean forgetting of every prior."""
        groups: dict[str, list[tuple[float, float]]] = {}
        for trial in self.trials:
            groups.setdefault(trial.prior, []).append((trial.loss, trial.forgetting))
        return {prior: tuple(np.mean(own, axis=0).tolist()) for prior, own in groups.items()}


def forgetting_of(study: Study, cell: Cell) -> Forgetting | None:
    """A cell's trials at the chosen rates; None where no running text was read with their prompts."""
    known = study.numbers.get(NUMBER, {})
    trials = [
        Forgot(prior=side.name, seed=seed, loss=run.loss, forgetting=known[run.id])
        for side in cell.sides.values()
        for seed, run in side.runs.items()
        if run.id in known and run.loss is not None
    ]
    return Forgetting(where=cell.where, trials=tuple(trials)) if trials else None


def pareto(points: Float[np.ndarray, "N 2"]) -> Int[np.ndarray, "K"]:
    """Numbers of the points that no other beats: as low in both, lower in one. In the order of the first."""
    order = np.lexsort((points[:, 1], points[:, 0]))
    kept = [i for i in order if not ((points <= points[i]).all(1) & (points < points[i]).any(1)).any()]
    return np.array(kept, dtype=int)


def draw_forgetting(cells: Sequence[Forgetting], width: float = PAGE, looks: Looks | None = None) -> Figure:
    """One panel per cell: trials small, means over seeds large, and the front of the means."""
    every = [trial for cell in cells for trial in cell.trials]
    groups: dict[tuple[str, str], list[int]] = {}
    for cell in cells:
        for trial in cell.trials:
            groups.setdefault((cell.where, trial.prior), []).append(trial.seed)
    caption = (
        f"{counted(len(every), 'trial')}, {seeds_text(groups.values())} per prior: small marks are trials, "
        "large ones means over seeds. Both numbers are better when lower; the line joins the means that no "
        f"other beats in both. At 0, running text costs what it costs without a prompt. {CHOSEN}"
    )
    looks = looks_for((trial.prior for trial in every), looks)
    front = Line2D([], [], color=LINE, linewidth=1, linestyle="--", label="Pareto front of the means")
    figure, panels = page(
        len(cells), caption, width=width, height=2.6, columns=2, keys=[*prior_keys(looks), front]
    )
    for panel, cell in zip(panels, cells, strict=True):
        panel.axhline(0, color=LINE, linewidth=0.8, zorder=0)
        for trial in cell.trials:
            look = looks[trial.prior]
            panel.scatter(
                trial.loss,
                trial.forgetting,
                s=9,
                color=look.colour,
                marker=look.marker,
                alpha=0.45,
                linewidths=0,
            )
        means = cell.means()
        for prior, (loss, forgetting) in means.items():
            panel.scatter(
                loss,
                forgetting,
                s=42,
                color=looks[prior].colour,
                marker=looks[prior].marker,
                edgecolors="black",
                linewidths=0.6,
                zorder=3,
            )
        points = np.array(list(means.values())).reshape(-1, 2)
        best = points[pareto(points)]
        panel.step(best[:, 0], best[:, 1], where="post", color=LINE, linestyle="--", linewidth=1, zorder=1)
        x, y = np.array([[t.loss, t.forgetting] for t in cell.trials]).reshape(-1, 2).T
        panel.set_xlim(*limits(x, points[:, 0]))
        panel.set_ylim(*limits(np.append(y, 0.0), np.append(points[:, 1], 0.0)))
        panel.set_title(cell.where, fontsize=TITLE)
        panel.set_xlabel("test loss (nats)", fontsize=NORMAL)
        panel.set_ylabel("forgetting (nats)", fontsize=NORMAL)
    return figure
