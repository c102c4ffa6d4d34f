"""Priors over all tasks of a study at once: scores between no prompt (0) and the best prior (1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from analysis.findings.common import SEEDS, loss
from analysis.findings.study import Cell, Study, mean_loss
from analysis.inference.across import improvement, interquartile_mean, normalised
from analysis.inference.intervals import FEWEST, TWO_SEEDS
from analysis.inference.jackknife import jackknife, of_probability, student
from analysis.inference.values import Interval, Range
from softprior.inputs.labels import counted


@dataclass(frozen=True, kw_only=True)
class Overall:
    """One prior, over every task, method and regulariser that has all priors.

    Attributes:
        prior: its name.
        seeds, cells: number of seeds that all have everywhere, and of the cells.
        budget: number of rates that it was tuned over, the most of any cell.
        score: interquartile mean of the scores at the rate chosen on validation.
        interval: 95%, over seeds.
        averaged: of the scores averaged over rates; None where it has one rate, or seeds are missing at some.
        better: share of seeds in which it scores above the first prior with the same seed, the mean over
            cells, ties counting half; None for the first.
        better_interval: 95% of that; None of two seeds.
        trials, averaged_trials: ids of its own trials in `score` and `averaged`.
    """

    prior: str
    seeds: int
    cells: int
    budget: int
    score: float
    interval: Interval
    averaged: float | None
    better: float | None
    better_interval: Interval | None
    trials: tuple[str, ...] = ()
    averaged_trials: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What scores are made of: the cells of a study that have all priors, and a gain over no prompt.

    Attributes:
        names: of the priors, in the study's order.
        seeds: those that all have everywhere.
        losses: of each prior, seed and cell, at the rates chosen on validation.
        nothing: of each cell, without a prompt.
    """

    cells: Sequence[Cell]
    names: Sequence[str]
    seeds: Sequence[int]
    losses: Float[np.ndarray, "N S K"]
    nothing: Float[np.ndarray, "K"]

    @property
    def best(self) -> Float[np.ndarray, "K"]:
        """Mean loss of the best prior of each cell."""
        found: np.ndarray = self.losses.mean(1).min(0)
        return found

    @property
    def scores(self) -> Float[np.ndarray, "N S K"]:
        """0 for the loss without a prompt, 1 for the best prior's mean."""
        return normalised(self.losses, self.nothing, self.best)

    @property
    def limit(self) -> float:
        """The score of a loss of 0, of the cell where it is largest: no score can be higher."""
        return float((self.nothing / (self.nothing - self.best)).max())

    def trials(self, name: str, averaged: bool = False) -> tuple[str, ...]:
        """Ids of a prior's trials."""
        return tuple(i for cell in self.cells for i in cell.sides[name].trials(self.seeds, averaged))


def overall(study: Study) -> list[Overall]:
    """Every prior, in the study's order; empty without what `scored_cells` needs."""
    known = scored_cells(study)
    if known is None:
        return []
    losses, nothing, seeds, names = known.losses, known.nothing, known.seeds, known.names
    cells, pairs = known.cells, len(seeds) * len(known.cells)
    found = []
    possible = Range(-np.inf, known.limit)
    several = len(seeds) >= FEWEST
    for i, name in enumerate(names):
        budget = max(len(cell.sides[name].rates) for cell in cells)
        reference = i == 0
        score = jackknife(partial(scored, losses, nothing, i), len(seeds))
        better = jackknife(partial(improved, losses, i), len(seeds))
        found.append(
            Overall(
                prior=name,
                seeds=len(seeds),
                cells=len(cells),
                budget=budget,
                score=score.value,
                interval=student(score).cut(possible),
                averaged=_averaged(known, name) if budget > 1 else None,
                better=None if reference else better.value,
                better_interval=of_probability(better, pairs) if several and not reference else None,
                trials=known.trials(name),
                averaged_trials=known.trials(name, averaged=True) if budget > 1 else (),
            )
        )
    return found


def scored_cells(study: Study) -> Scored | None:
    """What the scores of a study's priors are made of; None without two priors or two seeds.

    Cells without a baseline, or where no prior gains anything over it, have no scores and are left out.
    """
    cells = [cell for cell in study.cells("prior", least=2) if _gain(cell) > 0]
    if not cells:
        return None
    names = [name for name in cells[0].sides if all(name in cell.sides for cell in cells)]
    if len(names) < 2:
        return None
    seeds = sorted(set.intersection(*(set(c.sides[n].values(loss)) for c in cells for n in names)))
    if len(seeds) < SEEDS:
        return None
    losses = np.array([_losses(cells, name, seeds) for name in names])
    nothing = np.array(list(map(_nothing, cells)))
    gains = losses.mean(1).min(0) < nothing  # of the priors and seeds that are scored, which may be fewer
    if not gains.any():
        return None
    kept = [cell for cell, gain in zip(cells, gains, strict=True) if gain]
    return Scored(cells=kept, names=names, seeds=seeds, losses=losses[..., gains], nothing=nothing[gains])


def in_words(priors: Sequence[Overall]) -> list[str]:
    """A line for each prior, under one that says what the numbers are."""
    if not priors:
        return []
    one = priors[0]
    cells, seeds = counted(one.cells, "combination"), counted(one.seeds, "seed")
    over = f"{cells} of task, method and regularisers, {seeds} each"
    lines = [
        f"over {over}: interquartile mean of scores (0: no prompt, 1: the best prior), and share of seeds in "
        f"which it is better than {one.prior} with the same seed (ties count half)"
        + (", 95% over seeds" if one.seeds >= FEWEST else "")
    ]
    for prior in priors:
        text = f"  {prior.prior}: {prior.score:.2f}{_ends(prior.interval)}"
        if prior.averaged is not None:
            text += f", averaged over {counted(prior.budget, 'rate')} {prior.averaged:.2f}"
        if prior.better is not None:
            text += f"; better in {prior.better:.2f}{_ends(prior.better_interval)}"
        lines.append(text)
    return lines


def scored(
    losses: Float[np.ndarray, "N S K"],
    nothing: Float[np.ndarray, "K"],
    prior: int,
    rows: Int[np.ndarray, "... R"],
) -> Float[np.ndarray, "..."]:
    """Interquartile mean of a prior's scores over some seeds, which also say which prior is best.

    Args:
        losses: of each prior, seed and cell.
        nothing: without a prompt.
    """
    some = losses[:, rows]
    best = some.mean(-2, keepdims=True).min(0)
    return interquartile_mean(normalised(some[prior], nothing, best))


def improved(
    losses: Float[np.ndarray, "N S K"], prior: int, rows: Int[np.ndarray, "... R"]
) -> Float[np.ndarray, "..."]:
    """Share of some seeds in which a prior is better than the first prior."""
    return improvement(-losses[prior, rows], -losses[0, rows])


def _losses(
    cells: Sequence[Cell], name: str, seeds: Sequence[int], averaged: bool = False
) -> Float[np.ndarray, "S K"]:
    """Losses of one prior by seed and cell; nan where a seed lacks a rate that is averaged over."""
    return np.array([[c.sides[name].values(loss, averaged).get(s, np.nan) for c in cells] for s in seeds])


def _averaged(known: Scored, name: str) -> float | None:
    losses = _losses(known.cells, name, known.seeds, averaged=True)
    if np.isnan(losses).any():
        return None
    return float(interquartile_mean(normalised(losses, known.nothing, known.best)))


def _gain(cell: Cell) -> float:
    return _nothing(cell) - _best(cell)


def _nothing(cell: Cell) -> float:
    """Loss without a prompt; nan where it is not known."""
    baseline = cell.baseline
    return float("nan") if baseline is None or baseline.test is None else baseline.test.loss


def _best(cell: Cell) -> float:
    return min(map(mean_loss, cell.sides.values()))


def _ends(interval: Interval | None) -> str:
    """In brackets; nothing of two seeds, as the first line says what the numbers are."""
    if interval is None or interval.missing == TWO_SEEDS:
        return ""
    return f" ({interval.missing})" if interval.missing else f" [{interval.low:.2f}, {interval.high:.2f}]"
