"""Connectivity: loss along the straight line between two posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from analysis.connectivity import Connectivity, stands
from analysis.figures.palette import LINE, Looks, look
from analysis.figures.settings import looks_for
from analysis.figures.style import NORMAL, PAGE, key, page
from analysis.findings.study import Cell, Study
from softprior.errors import UserError
from softprior.inputs.labels import counted

OUTDATED = (
    "posteriors are not those that connectivity.json was measured on (deleted, trained again, or at a rate "
    "that is no longer chosen); run python -m jobs.connectivity again"
)


@dataclass(frozen=True, kw_only=True)
class Path:
    """Prompts (1 - t) a + t b between the posteriors of a pair, vector by vector.

    Attributes:
        name: of the pair, such as `isotropic to fitted`.
        at: t, rising from 0 to 1.
        losses: by pair of posteriors, in nats.
        prior: of the far end, whose look the line has; the lines have looks of their own if it is not known.
    """

    name: str
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
        alone: number of priors without a line.
        stale: number of lines that are not shown, as their posteriors are not those that were measured.
    """

    where: str
    paths: tuple[Path, ...]
    nothing: float
    examples: int
    alone: int = 0
    stale: int = 0


def connected_of(found: Connectivity, study: Study, cell: Cell) -> Connected | None:
    """The lines between a cell's posteriors; None where none was measured.

    Lines between posteriors that the study does not choose any longer, or that are not those that were
    measured, are left out.

    Raises:
        UserError: that are all lines of the cell.
    """
    everyone = {
        run.id for side in cell.sides.values() for runs in side.rates.values() for run in runs.values()
    }
    here = {run.id: side.name for side in cell.sides.values() for run in side.runs.values()}
    own = [(line, {trial for pair in line.trials for trial in pair}) for line in found.lines]
    own = [(line, ends) for line, ends in own if ends & everyone]
    if not own:
        return None
    lines = [line for line, ends in own if ends <= here.keys() and stands(line, study)]
    if not lines:
        raise UserError(f"{cell.where}: {OUTDATED}")
    paths = tuple(
        Path(
            name=line.name,
            at=np.array(line.at),
            losses=np.array(line.losses),
            prior=here[line.trials[0][1]],
        )
        for line in lines
    )
    with_line = {here[trial] for line in lines for pair in line.trials for trial in pair}
    return Connected(
        where=cell.where,
        paths=paths,
        nothing=lines[0].nothing,
        examples=lines[0].examples,
        alone=len(cell.sides.keys() - with_line),
        stale=len(own) - len(lines),
    )


def draw_connected(found: Connected, width: float = PAGE / 2, looks: Looks | None = None) -> Figure:
    """`draw_connectivity` of a cell."""
    left_out = ""
    if found.alone:
        left_out += f" {counted(found.alone, 'prior')} without a line."
    if found.stale:
        left_out += f" {counted(found.stale, 'outdated line')} not shown."
    return draw_connectivity(found.paths, found.nothing, width, found.where, found.examples, looks, left_out)


def draw_connectivity(
    paths: Sequence[Path],
    nothing: float | None = None,
    width: float = PAGE / 2,
    where: str = "",
    examples: int | None = None,
    looks: Looks | None = None,
    left_out: str = "",
) -> Figure:
    """All pairs in one panel, with their barriers in the key.

    Args:
        nothing: loss without a prompt.
        examples: number of test examples.
        looks: of priors.
        left_out: what is not shown, for the end of the caption.
    """
    known = looks_for([path.prior for path in paths if path.prior is not None], looks)
    own_looks = [look(i) if path.prior is None else known[path.prior] for i, path in enumerate(paths)]
    caption = (
        "Loss of the prompts on the line between two posteriors, vector by vector: "
        f"{_pairs_text(paths)}. In brackets, the barrier: how far the mean rises "
        "above the line between its ends."
    )
    if examples is not None:
        caption += f" The first {examples} test examples; exploratory."
    if nothing is not None:
        caption += " Dotted: no prompt."
    caption += left_out
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


def _pairs_text(paths: Sequence[Path]) -> str:
    """What a line and its band are, over pairs of posteriors."""
    counts = sorted({len(path.losses) for path in paths})
    if counts == [1]:
        return "one pair of posteriors, so no band"
    n = counted(counts[-1], "pair")
    n = n if len(counts) == 1 else f"{counts[0]} to {n}"
    return f"mean over {n} of posteriors, bands from the lowest to the highest pair"
