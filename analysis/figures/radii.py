"""How far out prompts lie, against the vocabulary's own tokens and what a Gaussian would give (chi)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy import stats

from analysis.figures.palette import BACKGROUND, LINE, TEXT, Looks
from analysis.figures.settings import CHOSEN, looks_for, seeds_text
from analysis.figures.style import NORMAL, PAGE, TITLE, page
from analysis.findings.posteriors import posterior_of
from analysis.findings.study import Cell, Study
from softprior.prompt import Place
from softprior.statistics.gaussian import Gaussian, fit_gaussian
from softprior.statistics.held_out import held_out_radii
from softprior.statistics.store import SiteStatistics

CENTRAL = (0.05, 0.5, 0.95)
"""Quantiles that are shown."""

PER_DIMENSION = 10
"""Tokens per dimension below which held-out radii are larger than chi, so that comparing would mislead."""

WIDEST = 2048
"""Most dimensions: an eigendecomposition of more takes longer than a figure should."""


@dataclass(frozen=True, kw_only=True)
class Radii:
    """The vectors of one prior at the model's input.

    Attributes:
        initial, final: Mahalanobis radii of all vectors of all seeds.
    """

    prior: str
    seeds: tuple[int, ...]
    initial: Float[np.ndarray, "N"]
    final: Float[np.ndarray, "N"]


@dataclass(frozen=True, kw_only=True)
class RadiiMap:
    """One cell of a study.

    Attributes:
        dimension: of the vectors.
        data: radii of sampled tokens, each left out of its own fit, so that a fresh one would have the same.
    """

    where: str
    dimension: int
    data: Float[np.ndarray, "M"]
    groups: tuple[Radii, ...]

    @property
    def shows_chi(self) -> bool:
        """Whether there are tokens enough for chi to be what a Gaussian's held-out radii follow."""
        return len(self.data) >= PER_DIMENSION * self.dimension


def radii_of(study: Study, cells: Sequence[Cell]) -> list[RadiiMap]:
    """Radii of kept prompts at block 0 under a Gaussian fitted on the study's sample of the vocabulary.

    Cells without such a prompt are left out, and all of them without a sample or with vectors of more than
    `WIDEST` dimensions.

    Raises:
        UserError: a posterior file is missing or damaged, or the sample does not span its dimensions.
    """
    if study.vocabulary is None or study.vocabulary.shape[1] > WIDEST:
        return []
    tokens = SiteStatistics.of(torch.from_numpy(study.vocabulary))
    fit = fit_gaussian(tokens.moments)
    data = held_out_radii(tokens, fit).radii.numpy()
    found = [_cell(study, cell, fit.gaussian, data) for cell in cells]
    return [own for own in found if own is not None]


def _cell(study: Study, cell: Cell, gaussian: Gaussian, data: Float[np.ndarray, "M"]) -> RadiiMap | None:
    groups = []
    for side in cell.sides.values():
        read = [posterior_of(study, run) for run in side.runs.values()]
        place = next((p for p in read[0].initial if p.in_front == Place(0, stack=p.stack)), None)
        if place is None:
            return None
        initial, final = (
            gaussian.radius(torch.cat([moment[place] for moment in moments])).numpy()
            for moments in ([p.initial for p in read], [p.final for p in read])
        )
        groups.append(Radii(prior=side.name, seeds=tuple(side.runs), initial=initial, final=final))
    return RadiiMap(where=cell.where, dimension=len(gaussian.mean), data=data, groups=tuple(groups))


def draw_radii(cells: Sequence[RadiiMap], width: float = PAGE, looks: Looks | None = None) -> Figure:
    """One panel per cell: median and central 90% of each prior's vectors, before and after training."""
    first = cells[0]
    chi = all(cell.shows_chi for cell in cells)
    vectors = sorted({len(group.final) for cell in cells for group in cell.groups})
    n = f"{vectors[0]:,}" if len(vectors) == 1 else f"{vectors[0]:,} to {vectors[-1]:,}"
    caption = (
        f"Mahalanobis radius around {len(first.data):,} tokens (H = {first.dimension}): median and central "
        f"90% of n = {n} vectors per prior, {seeds_text(g.seeds for c in cells for g in c.groups)}. Band: "
        f"the tokens' own, each left out of its fit. {CHOSEN}"
    )
    if not chi:
        caption += f" Chi is left out: it needs {PER_DIMENSION} tokens per dimension."
    keys = [
        Line2D([], [], color=TEXT, marker="o", markerfacecolor="white", linewidth=1, label="prior sample"),
        Line2D([], [], color=TEXT, marker="o", linewidth=2, label="posterior"),
        Patch(color=BACKGROUND, alpha=0.6, label="tokens"),
        *(
            [Line2D([], [], color="black", linestyle=":", linewidth=1, label="chi of a Gaussian")]
            if chi
            else []
        ),
    ]
    rows = max(len(cell.groups) for cell in cells)
    figure, panels = page(len(cells), caption, width=width, height=0.8 + 0.3 * rows, columns=2, keys=keys)
    looks = looks_for((group.prior for cell in cells for group in cell.groups), looks)
    for panel, cell in zip(panels, cells, strict=True):
        low, middle, high = np.quantile(cell.data, CENTRAL)
        panel.axvspan(low, high, color=BACKGROUND, alpha=0.6, linewidth=0)
        panel.axvline(middle, color=LINE, linewidth=1)
        if chi:
            for end in stats.chi(cell.dimension).ppf(CENTRAL):
                panel.axvline(end, color="black", linestyle=":", linewidth=0.8)
        for row, group in enumerate(cell.groups):
            look = looks[group.prior]
            for radii, at, face, thick in (
                (group.initial, row - 0.17, "white", 1.0),
                (group.final, row + 0.17, look.colour, 2.0),
            ):
                ends = np.quantile(radii, CENTRAL)
                panel.plot(ends[::2], (at, at), color=look.colour, linewidth=thick)
                panel.plot(
                    ends[1], at, marker=look.marker, color=look.colour, markerfacecolor=face, markersize=4.5
                )
        panel.set_yticks(range(len(cell.groups)), [group.prior for group in cell.groups])
        panel.set_ylim(len(cell.groups) - 0.5, -0.5)
        panel.set_xlabel("Mahalanobis radius", fontsize=NORMAL)
        panel.set_title(cell.where, fontsize=TITLE)
    return figure
