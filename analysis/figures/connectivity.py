"""Connectivity: loss along the straight line between two posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from analysis.connectivity import Connectivity
from analysis.figures.palette import LINE, Looks, look
from analysis.figures.settings import band_text, looks_for
from analysis.figures.style import NORMAL, PAGE, key, page
from analysis.findings.study import Cell


@dataclass(frozen=True, kw_only=True)
class Path:
    """Prompts (1 - t) a + t b between the posteriors of a pair, vector by vector.

    Attributes:
        name: of the pair, such as `isotropic to fitted`.
        at: t, rising from 0 to 1.
        losses: by seed, in nats.
        prior: of the far end, whose look the line has; the lines have looks of their own if it is not known.
    """

    name: str
    seeds: tuple[int, ...]
    at: Float[np.ndarray, "K"]
    losses: Float[np.ndarray, "S K"]
    prior: str | None = None

    def barrier(self) -> float:
        """How far the mean loss rises above the line between its own ends, at most, in nats."""
        mean = self.losses.mean(0)
        chord = mean[0] + (mean[-1] - mean[0]) * (self.at - self.at[0]) / (self.at[-1] - self.at[0])
        return float(max(0.0, (mean - chord).max()))


@dataclass(frozen=True, kw_only=True)
class Connected:
    """The paths of one cell.

    Attributes:
        nothing: loss without a prompt, in nats.
        examples: number of test examples behind each loss.
    """

    where: str
    paths: tuple[Path, ...]
    nothing: float
    examples: int


def connected_of(found: Connectivity, cell: Cell) -> Connected | None:
    """The lines between a cell's posteriors; None without any.

    Lines between posteriors that the study does not choose any longer are left out.
    """
    here = {run.id: side.name for side in cell.sides.values() for run in side.runs.values()}
    lines = [line for line in found.lines if all(trial in here for pair in line.trials for trial in pair)]
    if not lines:
        return None
    paths = tuple(
        Path(
            name=line.name,
            seeds=line.seeds,
            at=np.array(line.at),
            losses=np.array(line.losses),
            prior=here[line.trials[0][1]],
        )
        for line in lines
    )
    return Connected(where=cell.where, paths=paths, nothing=lines[0].nothing, examples=found.examples)


def draw_connected(found: Connected, width: float = PAGE / 2, looks: Looks | None = None) -> Figure:
    """`draw_connectivity` of a cell."""
    return draw_connectivity(found.paths, found.nothing, width, found.where, found.examples, looks)


def draw_connectivity(
    paths: Sequence[Path],
    nothing: float | None = None,
    width: float = PAGE / 2,
    where: str = "",
    examples: int | None = None,
    looks: Looks | None = None,
) -> Figure:
    """All pairs in one panel, with their barriers in the key.

    Args:
        nothing: loss without a prompt.
        examples: number of test examples.
        looks: of priors.
    """
    known = looks_for([path.prior for path in paths if path.prior is not None], looks)
    own_looks = [look(i) if path.prior is None else known[path.prior] for i, path in enumerate(paths)]
    caption = (
        "Loss of the prompts on the line between two posteriors, vector by vector: "
        f"{band_text([path.seeds for path in paths])}. In brackets, the barrier: how far the mean rises "
        "above the line between its ends."
    )
    if examples is not None:
        caption += f" The first {examples} test examples; exploratory."
    if nothing is not None:
        caption += " Dotted: no prompt."
    keys = [
        key(f"{path.name} ({path.barrier():.2f} nats)", own, line=True)
        for path, own in zip(paths, own_looks, strict=True)
    ]
    figure, (panel,) = page(1, caption, width=width, height=2.4, keys=keys, title=where)
    for path, own in zip(paths, own_looks, strict=True):
        mean = path.losses.mean(0)
        panel.fill_between(
            path.at, path.losses.min(0), path.losses.max(0), color=own.colour, alpha=0.15, lw=0
        )
        panel.plot(
            path.at,
            mean,
            color=own.colour,
            linestyle=own.dash,
            marker=own.marker,
            markersize=3.5,
            linewidth=1.2,
        )
    if nothing is not None:
        panel.axhline(nothing, color=LINE, linestyle=":", linewidth=1, zorder=0)
    panel.set_xlabel("share of the way", fontsize=NORMAL)
    panel.set_ylabel("loss (nats)", fontsize=NORMAL)
    return figure
