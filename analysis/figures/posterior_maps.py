"""Maps from prior to posterior: an arrow per vector, over the vocabulary or a task's activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from analysis.figures.palette import LINE, MARKERS, TEXT, Look, Looks
from analysis.figures.settings import CHOSEN, looks_for, short_rate
from analysis.figures.style import (
    NORMAL,
    PAGE,
    PANELS,
    TITLE,
    fit_window,
    lowest,
    page,
    short_loss,
    side_by_side,
    spread_over,
)
from analysis.findings.posteriors import posterior_of
from analysis.findings.study import Cell, Side, Study
from softprior.inputs.labels import counted
from softprior.prompt import Place

Embedding = Literal["pca", "t-SNE"]

Rates = Literal["chosen", "all"]

GREYS = ("#CCCCCC", "#8C8C8C", "#5E5E5E")
"""Colours of what lies behind; its markers differ too."""

BEHIND = 600
"""Most vectors of one background that t-SNE embeds, which takes long on more."""

PERPLEXITY = 30.0
"""Effective number of neighbours in t-SNE, of as many vectors as allow it."""

MEAN = "Cross: the mean of each kind that lies behind."


@dataclass(frozen=True, kw_only=True)
class Arrows:
    """One prior's vectors in the plane.

    Attributes:
        loss: test loss, in nats.
    """

    prior: str
    rate: str
    initial: Float[np.ndarray, "P 2"]
    final: Float[np.ndarray, "P 2"]
    loss: float


class Components(NamedTuple):
    """Shares of variance along the axes: the first two principal components."""

    first: float
    second: float


class Neighbours(NamedTuple):
    """t-SNE, with the perplexity that it had."""

    perplexity: float


@dataclass(frozen=True, kw_only=True)
class PosteriorMap:
    """Priors of one cell at one place, all in the same plane.

    Attributes:
        place: where the vectors enter the model.
        seed: of all of the trials.
        behind: real vectors by what they are.
        plane: how the vectors were brought into it.
        rates: which of them are shown.
        left_out: number of priors, or of priors at a rate, that are not shown.
        raw: whether the model sees the vectors through the block's norm only, and the map is of those before.
    """

    where: str
    place: str
    seed: int
    arrows: tuple[Arrows, ...]
    behind: Mapping[str, Float[np.ndarray, "N 2"]]
    plane: Components | Neighbours
    rates: Rates = "chosen"
    left_out: int = 0
    raw: bool = False


def posterior_map_of(
    study: Study,
    cell: Cell,
    *,
    place: Place | None = None,
    behind: Mapping[str, Float[np.ndarray, "N H"]] | None = None,
    embedding: Embedding = "pca",
    rates: Rates = "chosen",
) -> PosteriorMap | None:
    """The first seed that all priors have, each at its chosen rate; None without such a place or seed.

    With all rates, a panel for each prior and rate; if they are too many, the lowest and the highest rate of
    the first priors. None too where every prior has one rate.

    What lies behind and all vectors together span the plane.

    Args:
        place: by default the prompt's first.
        behind: real vectors of the same width, such as activations of two tasks at the place's site. By
            default the study's sample of the vocabulary for residual vectors at block 0, nothing elsewhere.
        embedding: `t-SNE` keeps neighbours; lengths and directions of its arrows mean nothing.

    Raises:
        UserError: a posterior file is missing or damaged.
    """
    every = [(side, rate) for side in cell.sides.values() for rate in _rates(side, rates)]
    chosen = _shown(every)
    shared = set.intersection(*(set(side.rates[rate]) for side, rate in chosen))
    if not shared or (rates == "all" and len(every) == len(cell.sides)):
        return None
    seed = min(shared)
    runs = [side.rates[rate][seed] for side, rate in chosen]
    read = [posterior_of(study, run) for run in runs]
    at = place or min(read[0].initial)
    if any(at not in posterior.initial for posterior in read):
        return None
    behind = tokens_behind(study, at) if behind is None else behind
    ends = [array for p in read for array in (p.initial[at].numpy(), p.final[at].numpy())]
    flat, plane = flattened([*behind.values()], ends, embedding)
    lying, moving = flat[: len(behind)], flat[len(behind) :]
    losses = [float("nan") if run.loss is None else run.loss for run in runs]
    arrows = [
        Arrows(prior=side.name, rate=rate, initial=moving[2 * i], final=moving[2 * i + 1], loss=loss)
        for i, ((side, rate), loss) in enumerate(zip(chosen, losses, strict=True))
    ]
    return PosteriorMap(
        where=cell.where,
        place=at.name,
        seed=seed,
        arrows=tuple(arrows),
        behind=dict(zip(behind, lying, strict=True)),
        plane=plane,
        rates=rates,
        left_out=len(every) - len(chosen),
        raw=at.after == "cut",
    )


def _rates(side: Side, rates: Rates) -> list[str]:
    """A prior's chosen rate, or all of its rates from the lowest to the highest, relative ones last."""
    if rates == "chosen":
        return [side.chosen]

    def size(rate: str) -> tuple[bool, float]:
        known = next(iter(side.rates[rate].values())).record.spec.rate
        assert known is not None
        return known.relative, known.value

    return sorted(side.rates, key=size)


def _shown(every: Sequence[tuple[Side, str]]) -> list[tuple[Side, str]]:
    """The priors and rates that fit; of too many, the first and last rate of as many priors as fit whole."""
    if len(every) <= PANELS:
        return list(every)
    by_prior: dict[str, list[tuple[Side, str]]] = {}
    for side, rate in every:
        by_prior.setdefault(side.name, []).append((side, rate))
    shown: list[tuple[Side, str]] = []
    for own in by_prior.values():
        ends = spread_over(own, 2)
        if len(shown) + len(ends) > PANELS:
            break
        shown += ends
    return shown


def flattened(
    behind: Sequence[np.ndarray], ends: Sequence[np.ndarray], embedding: Embedding
) -> tuple[list[np.ndarray], Components | Neighbours]:
    """All arrays in one plane."""
    if embedding == "t-SNE":
        behind = [array[:BEHIND] for array in behind]
    arrays = [*behind, *ends]
    stacked = np.concatenate(arrays)
    cuts = np.cumsum([len(array) for array in arrays])[:-1]
    if embedding == "pca":
        pca = PCA(2, random_state=0).fit(stacked)
        first, second = pca.explained_variance_ratio_.tolist()
        return np.split(pca.transform(stacked), cuts), Components(first, second)
    short = PCA(min(50, *stacked.shape), random_state=0).fit_transform(stacked)
    perplexity = min(PERPLEXITY, (len(short) - 1) / 3)
    flat = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(short)
    return np.split(flat, cuts), Neighbours(perplexity)


def _caption(found: PosteriorMap) -> str:
    """What a map shows, and what it leaves out."""
    vectors = len(found.arrows[0].initial)
    n = ", ".join(f"{name} (n = {len(points):,})" for name, points in found.behind.items())
    method = "Principal components"
    if isinstance(found.plane, Neighbours):
        method = f"t-SNE (perplexity {found.plane.perplexity:.3g}, seed 0)"
    caption = (
        f"{method} at {found.place}: {counted(vectors, 'vector')} per prior, seed {found.seed}, one plane "
        f"for all{f'; behind them {n}' if n else ''}."
    )
    if found.rates == "chosen":
        caption += f" {CHOSEN}"
    if found.raw:
        caption += " Vectors before the block's norm, through which alone the model sees them."
    if found.behind and isinstance(found.plane, Components):
        caption += f" {MEAN}"
    if isinstance(found.plane, Neighbours):
        caption += " Only neighbours mean something, not lengths and directions of arrows."
    if found.left_out and found.rates == "all":
        priors = counted(len({arrows.prior for arrows in found.arrows}), "prior")
        more = counted(found.left_out, "more combination")
        caption += f" The lowest and the highest rate of {priors}; {more} of prior and rate not shown."
    elif found.left_out:
        caption += f" {counted(found.left_out, 'more prior')} not shown."
    return caption


def draw_posterior_map(found: PosteriorMap, width: float = PAGE, looks: Looks | None = None) -> Figure:
    """One panel per prior, all with the same axes."""
    keys = [
        Line2D(
            [], [], color=TEXT, marker="o", markerfacecolor="white", markersize=5, lw=0, label="prior sample"
        ),
        Line2D([], [], color=TEXT, marker="o", markersize=5, linewidth=0, label="posterior"),
        *behind_keys(found.behind),
    ]
    # A row for each prior, where they fit.
    own = sum(arrows.prior == found.arrows[0].prior for arrows in found.arrows)
    figure, panels = page(
        len(found.arrows),
        _caption(found),
        width=width,
        height=2.3,
        columns=side_by_side(len(found.arrows)) if found.rates == "chosen" else min(own, 3),
        keys=keys,
        title=found.where,
        sharex=True,
        sharey=True,
    )
    looks = looks_for((arrows.prior for arrows in found.arrows), looks)
    moving = np.concatenate([points for arrows in found.arrows for points in (arrows.initial, arrows.final)])
    lying = np.concatenate([*found.behind.values(), moving[:0]])
    for panel, arrows in zip(panels, found.arrows, strict=True):
        _draw(panel, arrows, found.behind, looks[arrows.prior], isinstance(found.plane, Components))
        title = f"{arrows.prior}, {short_rate(arrows.rate)}: loss {short_loss(arrows.loss)}"
        panel.set_title(title, fontsize=TITLE - 1)
    fit_window(panels[0], lying, moving)
    names = ("t-SNE 1", "t-SNE 2")
    if isinstance(found.plane, Components):
        names = (f"PC 1 ({found.plane.first:.0%} of variance)", f"PC 2 ({found.plane.second:.0%})")
    for panel in panels:
        spec = panel.get_subplotspec()
        assert spec is not None
        panel.set_ylabel(names[1] if spec.is_first_col() else "", fontsize=NORMAL)
    for panel in lowest(panels):
        panel.set_xlabel(names[0], fontsize=NORMAL)
    return figure


def tokens_behind(study: Study, place: Place) -> dict[str, Float[np.ndarray, "N H"]]:
    """The study's sample of the vocabulary where a place's vectors stand beside it."""
    embedded = place.block == 0 and place.kind == "residual"
    return {"vocabulary": study.vocabulary} if embedded and study.vocabulary is not None else {}


def _behind_looks(count: int) -> list[tuple[str, str]]:
    return [(GREYS[i % len(GREYS)], MARKERS[i % len(MARKERS)]) for i in range(count)]


def draw_behind(panel: Axes, behind: Mapping[str, Float[np.ndarray, "N 2"]], means: bool = True) -> None:
    """Draws real vectors, and a cross at the mean of each kind."""
    for points, (grey, marker) in zip(behind.values(), _behind_looks(len(behind)), strict=True):
        x, y = points.T
        panel.scatter(x, y, s=3, color=grey, marker=marker, linewidths=0, rasterized=True, zorder=1)
        if means:
            panel.plot(x.mean(), y.mean(), "+", color="black", markersize=7, markeredgewidth=1.2, zorder=5)


def behind_keys(behind: Mapping[str, Float[np.ndarray, "N 2"]]) -> list[Line2D]:
    """The key of what lies behind."""
    return [
        Line2D([], [], color=grey, marker=marker, markersize=3.5, linewidth=0, label=name)
        for name, (grey, marker) in zip(behind, _behind_looks(len(behind)), strict=True)
    ]


def _draw(
    panel: Axes,
    arrows: Arrows,
    behind: Mapping[str, Float[np.ndarray, "N 2"]],
    look: Look,
    means: bool,
) -> None:
    draw_behind(panel, behind, means)
    (x, y), (end_x, end_y) = arrows.initial.T, arrows.final.T
    panel.quiver(
        x,
        y,
        end_x - x,
        end_y - y,
        angles="xy",
        scale_units="xy",
        scale=1,
        color=LINE,
        width=0.004,
        headwidth=4,
        headlength=5,
        zorder=2,
    )
    panel.scatter(
        x, y, s=28, marker=look.marker, facecolors="white", edgecolors=look.colour, linewidths=0.8, zorder=3
    )
    panel.scatter(end_x, end_y, s=9, marker=look.marker, color=look.colour, linewidths=0, zorder=4)
