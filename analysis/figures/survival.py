"""Kaplan-Meier curves: how many label tokens until a validation loss is reached, by prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from scipy import stats

from analysis.figures.palette import prior_looks
from analysis.figures.settings import CHOSEN, Cell, chosen, prior_keys, seeds_text
from analysis.figures.style import NORMAL, PAGE, TITLE, page
from softprior.library.results import Results
from softprior.results.records import Record


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


@dataclass(frozen=True, kw_only=True)
class Survival:
    """One cell of a study.

    Attributes:
        target: the validation loss to reach, in nats.
        unit: of the times.
    """

    where: str
    target: float
    groups: tuple[Waiting, ...]
    unit: str = "label tokens"


def target_of(cell: Cell) -> float:
    """A loss that some reach and some do not: half of the way that the best prior went.

    From the mean validation loss of all untrained samples to the lowest mean of a prior's trained prompts,
    each at its chosen rate.
    """
    best = chosen(cell)
    start = float(np.mean([own.initial_validation_loss.mean() for own in best.values()]))
    end = float(min(own.validation_loss.mean() for own in best.values()))
    return (start + end) / 2


def survival_of(results: Results, cell: Cell, target: float | None = None) -> Survival:
    """Reads when each seed was first validated at the target loss or below; all tokens count from step 1.

    Records made before label tokens were counted give steps.
    """
    aim = target_of(cell) if target is None else target
    groups = {prior: [results.records[trial] for trial in own.trial] for prior, own in chosen(cell).items()}
    every = [record for own in groups.values() for record in own]
    by_step = any(point.labels is None for record in every for point in record.steps)
    found = []
    for prior, own in groups.items():
        waited = [_waited(record, aim, by_step) for record in own]
        found.append(
            Waiting(
                prior=prior,
                seeds=tuple(int(record.spec.seed or 0) for record in own),
                times=np.array([time for time, _ in waited], dtype=float),
                reached=np.array([reached for _, reached in waited]),
            )
        )
    unit = "optimizer steps" if by_step else "label tokens"
    return Survival(where=cell.name, target=aim, groups=tuple(found), unit=unit)


def _waited(record: Record, target: float, by_step: bool) -> tuple[int, bool]:
    first = next((score.step for score in record.validation if score.loss <= target), None)
    last = len(record.steps) if first is None else first
    labels = sum(point.labels or 0 for point in record.steps if point.step <= last)
    return (last if by_step else labels), first is not None


def draw_survival(cells: Sequence[Survival], width: float = PAGE) -> Figure:
    """One panel per cell."""
    every = [group for cell in cells for group in cell.groups]
    censored = sum(int((~group.reached).sum()) for group in every)
    caption = (
        f"Share of {seeds_text(group.seeds for group in every)} that has not yet reached the validation loss "
        f"in the title (Kaplan-Meier), against {cells[0].unit} trained on. {CHOSEN} "
        f"Ticks: training ended before ({censored} of {sum(len(g.times) for g in every)} trials)."
    )
    priors = [group.prior for group in every]
    figure, panels = page(
        len(cells), caption, width=width, height=2.3, columns=2, keys=prior_keys(priors, line=True)
    )
    looks = prior_looks(priors)
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
        panel.set_ylim(-0.04, 1.06)
        panel.set_xlim(0, end * 1.02)
        panel.set_title(" · ".join(filter(None, (cell.where, f"loss {cell.target:.3g}"))), fontsize=TITLE)
        panel.set_xlabel(cell.unit, fontsize=NORMAL)
        panel.set_ylabel("share not there yet", fontsize=NORMAL)
    return figure
