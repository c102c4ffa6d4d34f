"""Kaplan-Meier curves: how many label tokens until a validation loss is reached, by prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from scipy import stats

from analysis.figures.palette import Looks
from analysis.figures.settings import CHOSEN, looks_for, prior_keys, seeds_text
from analysis.figures.style import NORMAL, PAGE, TITLE, page
from analysis.findings.speed import counts_tokens, label_tokens, level, steps, times
from analysis.findings.study import Cell
from analysis.inference.survival import Times, restricted_mean
from softprior.inputs.labels import counted


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """One prior.

    Attributes:
        times: label tokens trained on until the loss was reached, or until training ended.
        reached: whether it was; False is a censored time.
    """

    prior: str
    seeds: tuple[int, ...]
    times: Float[np.ndarray, "S"]
    reached: Bool[np.ndarray, "S"]

    def share_waiting(self) -> tuple[Float[np.ndarray, "K"], Float[np.ndarray, "K"]]:
        """The Kaplan-Meier curve: times, and the share of seeds that has not reached the loss after each."""
        data = stats.CensoredData(uncensored=self.times[self.reached], right=self.times[~self.reached])
        curve = stats.ecdf(data).sf
        return curve.quantiles, curve.probabilities

    def restricted_mean(self, horizon: float) -> float:
        """Restricted mean time: the area under the curve up to a horizon."""
        return restricted_mean(Times(self.times, self.reached), horizon)


@dataclass(frozen=True, kw_only=True)
class Survival:
    """One cell of a study.

    Attributes:
        target: the validation loss to reach, in nats.
        horizon: the shortest training of the cell, up to which means of times are restricted.
        unit: of the times.
    """

    where: str
    target: float
    horizon: float
    groups: tuple[Waiting, ...]
    unit: str = "label tokens"


def survival_of(cell: Cell) -> Survival | None:
    """Label tokens until each seed was first validated at the loss of the claim on speed or below.

    If some trial did not count them, all times of the cell are in optimizer steps.

    None where there is no such loss: without a baseline, or where no prompt is better than none.
    """
    target = level(cell)
    if target is None:
        return None
    known = all(counts_tokens(run) for side in cell.sides.values() for run in side.runs.values())
    clock, unit = (label_tokens, "label tokens") if known else (steps, "optimizer steps")
    found = []
    for side in cell.sides.values():
        own = times(list(side.runs.values()), target, clock)
        found.append(Waiting(prior=side.name, seeds=tuple(side.runs), times=own.times, reached=own.reached))
    ends = (clock(r, len(r.record.steps)) for side in cell.sides.values() for r in side.runs.values())
    return Survival(where=cell.where, target=target, horizon=min(ends), groups=tuple(found), unit=unit)


def draw_survival(cells: Sequence[Survival], width: float = PAGE, looks: Looks | None = None) -> Figure:
    """One panel per cell."""
    every = [group for cell in cells for group in cell.groups]
    units = dict.fromkeys(cell.unit for cell in cells)
    horizons = dict.fromkeys(f"{cell.horizon:,.0f}" for cell in cells)
    censored = sum(int((~group.reached).sum()) for group in every)
    caption = (
        f"Share of {seeds_text(group.seeds for group in every)} that has not yet reached the validation loss "
        f"in the title (Kaplan-Meier), against {' or '.join(units)} of training. The loss is half way from "
        f"no prompt to the best prior's last one. {CHOSEN} "
        f"Ticks: training ended before ({censored} of "
        f"{counted(sum(len(g.times) for g in every), 'trial')}). "
        f"Marks on the axis: restricted mean times, up to {' and '.join(horizons)}"
    )
    caption += f": {_means(cells[0])}." if len(cells) == 1 else "."
    looks = looks_for((group.prior for group in every), looks)
    figure, panels = page(
        len(cells), caption, width=width, height=2.3, columns=2, keys=prior_keys(looks, line=True)
    )
    for panel, cell in zip(panels, cells, strict=True):
        end = max((group.times.max() for group in cell.groups), default=1.0)
        for i, group in enumerate(cell.groups):
            look = looks[group.prior]
            times, shares = group.share_waiting()
            # Curves that coincide would hide one another: a hair apart, far less than a seed.
            shift = 0.006 * (i - (len(cell.groups) - 1) / 2)
            x, y = np.array([0.0, *times, end]), np.array([1.0, *shares, shares[-1]])
            panel.step(x, y + shift, where="post", color=look.colour, linestyle=look.dash, linewidth=1.3)
            last = group.times[~group.reached]
            height = y[np.searchsorted(x[:-1], last, side="right") - 1] + shift
            panel.plot(last, height, "|", color=look.colour, markersize=7)
            events = np.flatnonzero(np.diff(y[:-1])) + 1
            panel.plot(
                x[events],
                y[events] + shift,
                marker=look.marker,
                linestyle="none",
                color=look.colour,
                markersize=3.5,
            )
            mean = group.restricted_mean(cell.horizon)
            panel.plot(mean, -0.04, look.marker, color=look.colour, markersize=6, clip_on=False, zorder=5)
        panel.set_ylim(-0.04, 1.06)
        panel.set_xlim(0, end * 1.02)
        panel.set_title(" · ".join(filter(None, (cell.where, f"loss {cell.target:.3g}"))), fontsize=TITLE)
        panel.set_xlabel(cell.unit, fontsize=NORMAL)
        panel.set_ylabel("share not there yet", fontsize=NORMAL)
    return figure


def _means(cell: Survival) -> str:
    """Restricted mean times in words."""
    return ", ".join(f"{group.prior} {group.restricted_mean(cell.horizon):,.0f}" for group in cell.groups)
