"""The samples of a study's priors over real vectors: whether a prior covers them, misses or collapses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA

from analysis.figures.palette import TEXT, Looks
from analysis.figures.posterior_maps import MEAN, behind_keys, draw_behind, tokens_behind
from analysis.figures.settings import looks_for, seeds_text
from analysis.figures.style import NORMAL, PAGE, PANELS, TITLE, fit_window, lowest, page, side_by_side
from analysis.findings.posteriors import posterior_of
from analysis.findings.study import Cell, Study
from softprior.inputs.labels import counted
from softprior.prompt import Place


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The samples of one prior, of all seeds together.

    Attributes:
        spread: standard deviation from their own mean, all dimensions together, over that of the real vectors
            from the mean of their kind; a prior that has collapsed is near 0. None for a single vector, and
            where every kind has a single one.
    """

    prior: str
    seeds: tuple[int, ...]
    points: Float[np.ndarray, "N 2"]
    spread: float | None


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Priors of one cell at one place, in the plane of the real vectors.

    Attributes:
        behind: real vectors by what they are.
        shares: of the variance of the real vectors along the axes.
        left_out: number of priors that are not shown.
        raw: see `PosteriorMap`.
    """

    where: str
    place: str
    priors: tuple[Drawn, ...]
    behind: Mapping[str, Float[np.ndarray, "N 2"]]
    shares: tuple[float, float]
    left_out: int = 0
    raw: bool = False


def samples_of(
    study: Study,
    cell: Cell,
    *,
    place: Place | None = None,
    behind: Mapping[str, Float[np.ndarray, "N H"]] | None = None,
) -> Samples | None:
    """The untrained samples of all seeds; None without such a place, or without real vectors beside them.

    The real vectors alone span the plane: a sample is not data.

    Args:
        place: by default the prompt's first.
        behind: see `posterior_map_of`.

    Raises:
        UserError: a posterior file is missing or damaged.
    """
    sides = list(cell.sides.values())[:PANELS]
    starts = [[posterior_of(study, run).initial for run in side.runs.values()] for side in sides]
    at = place or min(starts[0][0])
    if any(at not in start for own in starts for start in own):
        return None
    behind = tokens_behind(study, at) if behind is None else behind
    if not behind:
        return None
    pca = PCA(2, random_state=0).fit(np.concatenate([*behind.values()]))
    first, second = pca.explained_variance_ratio_.tolist()
    inside = spread_within(behind.values())
    drawn = []
    for side, own in zip(sides, starts, strict=True):
        vectors = np.concatenate([start[at].numpy() for start in own])
        own_spread = spread_within([vectors])
        spread = None if own_spread is None or not inside else own_spread / inside
        points = pca.transform(vectors)
        drawn.append(Drawn(prior=side.name, seeds=tuple(side.runs), points=points, spread=spread))
    return Samples(
        where=cell.where,
        place=at.name,
        priors=tuple(drawn),
        behind={name: pca.transform(own) for name, own in behind.items()},
        shares=(first, second),
        left_out=len(cell.sides) - len(sides),
        raw=at.after == "cut",
    )


def spread_within(kinds: Iterable[Float[np.ndarray, "N H"]]) -> float | None:
    """Standard deviation of vectors from the mean of their kind, all dimensions together; None without any.

    Unbiased as a variance, so that priors with few samples do not look narrower than the data.
    """
    total, free = 0.0, 0
    for vectors in kinds:
        total += float(np.square(vectors - vectors.mean(0, dtype=np.float64)).sum())
        free += len(vectors) - 1
    return float(np.sqrt(total / free)) if free else None


def draw_samples(found: Samples, width: float = PAGE, looks: Looks | None = None) -> Figure:
    """One panel per prior, all with the same axes."""
    n = ", ".join(f"{name} (n = {len(points):,})" for name, points in found.behind.items())
    caption = (
        f"Samples of each prior at {found.place} before training, "
        f"{seeds_text(own.seeds for own in found.priors)}, in the first two principal components of {n}. "
        "Spread: standard deviation from their own mean, over that of the real vectors from the mean of "
        f"their kind; near 0 the prior has collapsed. {MEAN}"
    )
    if found.raw:
        caption += " Vectors before the block's norm, through which alone the model sees them."
    if found.left_out:
        caption += f" {counted(found.left_out, 'more prior')} not shown."
    sample = Line2D([], [], color=TEXT, marker="o", markersize=4, linewidth=0, label="sample of the prior")
    keys = [sample, *behind_keys(found.behind)]
    figure, panels = page(
        len(found.priors),
        caption,
        width=width,
        height=2.3,
        columns=side_by_side(len(found.priors)),
        keys=keys,
        title=found.where,
        sharex=True,
        sharey=True,
    )
    looks = looks_for((own.prior for own in found.priors), looks)
    for panel, own in zip(panels, found.priors, strict=True):
        look = looks[own.prior]
        draw_behind(panel, found.behind)
        x, y = own.points.T
        panel.scatter(x, y, s=9, marker=look.marker, color=look.colour, linewidths=0, zorder=4)
        spread = "no spread" if own.spread is None else f"spread {own.spread:.2g}"
        panel.set_title(f"{own.prior}: {spread}", fontsize=TITLE - 1)
    moving = np.concatenate([own.points for own in found.priors])
    fit_window(panels[0], np.concatenate([*found.behind.values()]), moving)
    first, second = found.shares
    for panel in lowest(panels):
        panel.set_xlabel(f"PC 1 ({first:.0%} of variance)", fontsize=NORMAL)
    for panel in panels:
        spec = panel.get_subplotspec()
        assert spec is not None
        panel.set_ylabel(f"PC 2 ({second:.0%})" if spec.is_first_col() else "", fontsize=NORMAL)
    return figure
