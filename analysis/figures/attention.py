"""Share of attention on the prompt, block by block, trained and untrained. Exploratory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures.palette import LINE, TEXT, Looks
from analysis.figures.settings import CHOSEN, looks_for, prior_keys, seeds_text
from analysis.figures.style import MARGIN, NORMAL, PAGE, TITLE, page
from analysis.findings.study import Cell
from softprior.results.probed import Attended


@dataclass(frozen=True, kw_only=True)
class Looked:
    """One prior; means over seeds, in each block.

    Attributes:
        trained, untrained: share of attention on the prompt.
        first: of the trained prompt's first vector alone.
    """

    prior: str
    seeds: tuple[int, ...]
    trained: Float[np.ndarray, "L"]
    untrained: Float[np.ndarray, "L"]
    first: Float[np.ndarray, "L"]


@dataclass(frozen=True, kw_only=True)
class AttentionMap:
    """One cell of a study.

    Attributes:
        even: the share if all that predictions see got the same, sliding windows aside; mean over blocks and
            trials.
        examples: smallest number of test examples of a trial.
    """

    where: str
    priors: tuple[Looked, ...]
    even: float
    examples: int


def attention_of(cell: Cell) -> AttentionMap | None:
    """What the probe `attention` measured at the chosen rates; None where no trial has it."""
    found, evens, examples = [], [], []
    for side in cell.sides.values():
        known: dict[int, Attended] = {}
        for seed, run in side.runs.items():
            for one in run.record.probes:
                if isinstance(one.found, Attended):
                    known[seed] = one.found
                    evens.append(one.found.even)
                    examples.append(one.examples)
        if known:
            trained, untrained = (
                np.mean([getattr(own, name) for own in known.values()], 0)
                for name in ("blocks", "untrained_blocks")
            )
            found.append(
                Looked(
                    prior=side.name,
                    seeds=tuple(known),
                    trained=trained[:, 0],
                    untrained=untrained[:, 0],
                    first=trained[:, 1],
                )
            )
    if not found:
        return None
    return AttentionMap(
        where=cell.where, priors=tuple(found), even=float(np.mean(evens)), examples=min(examples)
    )


def draw_attention(cells: Sequence[AttentionMap], width: float = PAGE, looks: Looks | None = None) -> Figure:
    """One panel per cell: a line per prior over blocks, a dotted one for its untrained sample."""
    every = [own for cell in cells for own in cell.priors]
    caption = (
        "Share of attention on the prompt where labels are predicted: mean over heads, label tokens of "
        f"{min(cell.examples for cell in cells)} test examples at least, and "
        f"{seeds_text(own.seeds for own in every)}. Filled markers: the prompt; open ones: its first vector "
        f"alone; dotted: the untrained sample; grey: the share if all got the same, windows aside. {CHOSEN} "
        "Exploratory."
    )
    looks = looks_for((own.prior for own in every), looks)
    kinds = [
        Line2D([], [], color=TEXT, marker="o", linewidth=1.2, markersize=4, label="prompt"),
        Line2D(
            [],
            [],
            color=TEXT,
            marker="o",
            markerfacecolor="white",
            linewidth=0,
            markersize=4,
            label="its first",
        ),
        Line2D([], [], color=TEXT, linestyle=":", linewidth=1, label="untrained"),
    ]
    keys = [*prior_keys(looks), *kinds]
    figure, panels = page(len(cells), caption, width=width, height=2.4, columns=2, keys=keys)
    shares = [share for own in every for share in (own.trained, own.untrained, own.first)]
    largest = max(*(float(share.max()) for share in shares), *(cell.even for cell in cells))
    top = min(1.0, (1 + MARGIN) * largest) or 1.0
    for panel, cell in zip(panels, cells, strict=True):
        panel.axhline(cell.even, color=LINE, linewidth=1, zorder=0)
        for own in cell.priors:
            look, blocks = looks[own.prior], np.arange(len(own.trained))
            often = max(1, len(blocks) // 8)
            panel.plot(blocks, own.untrained, color=look.colour, linestyle=":", linewidth=1)
            panel.plot(
                blocks,
                own.trained,
                color=look.colour,
                marker=look.marker,
                markersize=3.5,
                markevery=often,
                linewidth=1.2,
            )
            panel.plot(
                blocks[::often],
                own.first[::often],
                marker=look.marker,
                linestyle="none",
                markersize=3.5,
                color=look.colour,
                markerfacecolor="white",
            )
        panel.set_ylim(0, top)
        panel.set_title(cell.where, fontsize=TITLE)
        panel.set_xlabel("block", fontsize=NORMAL)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_ylabel("share of attention", fontsize=NORMAL)
    return figure
