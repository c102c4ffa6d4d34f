"""Where the variance of a result comes from: the prior's draw, the data's order, examples, rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.figures.palette import COLOURS
from analysis.figures.style import NORMAL, PAGE, SMALL, page
from analysis.findings.study import Cell, Side, Study
from analysis.inference.components import Components, components, shares_of
from analysis.inference.intervals import by_group
from analysis.inference.values import PerExample
from analysis.spread import HALF_PRECISION, NO_TWINS, NOT_TOLD_APART, TOGETHER
from softprior.inputs.labels import counted

SEEDS, DRAW, ORDER, ROUNDING = "seeds", "prior draw", "data order", "rounding"
"""What seeds differ in, and its parts."""

HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++")

LEAST = 0.08
"""Share below which a bar's part is too narrow for its number."""


@dataclass(frozen=True, kw_only=True)
class Variance:
    """One result.

    Attributes:
        name: a prior or a cell.
        parts: estimated variance by source, in squared units of the result; they sum to that of the result.
        n: what they are estimated from, in words.
    """

    name: str
    parts: Mapping[str, float]
    n: str

    @property
    def below(self) -> tuple[str, ...]:
        """Sources whose estimate is below zero, which are shown as 0."""
        return tuple(source for source, part in self.parts.items() if part < 0)

    @property
    def deviation(self) -> float:
        """Standard deviation of the result."""
        return math.sqrt(max(0.0, sum(self.parts.values())))


def components_of(study: Study, cell: Cell) -> list[Variance]:
    """Variance of one seed's loss on one example, by prior at its chosen rate.

    Seeds, examples, and what is neither: how a seed's loss on one example differs from what both make of it.
    Where the cell has twins, rounding is a part of seeds, pooled over priors, as one pair can be close by
    chance. Where the prior has reordered trials, the rest of seeds is the prior's draw and the data's order.
    Priors without two seeds on the same examples are left out.
    """
    found = []
    twins = _twins(study, cell)
    for side in cell.sides.values():
        known = [study.examples.get(run.id) for run in side.runs.values()]
        rows = [own for own in known if own is not None]
        if len(rows) < 2 or len(rows) < len(known) or len({own.examples for own in rows}) > 1:
            continue
        if len(rows[0].examples) < 2:
            continue
        pairs = _reordered(study, side, rows[0].examples)
        own = components(_table(rows), twins, pairs)
        n = f"{counted(len(rows), 'seed')} x {counted(len(rows[0].examples), 'example')}"
        n += "" if pairs is None else f" ({counted(len(pairs), 'reordered trial')})"
        found.append(Variance(name=side.name, parts=_parts(own), n=n))
    return found


def _parts(own: Components) -> dict[str, float]:
    """The parts of a bar."""
    rounding = own.rounding or 0.0
    parts = {SEEDS: own.rows - rounding}
    if own.order is not None:
        parts = {DRAW: own.rows - own.order, ORDER: own.order - rounding}
    parts |= {"examples": own.columns, "seeds x examples": own.rest}
    return parts if own.rounding is None else {**parts, ROUNDING: rounding}


def _table(rows: Sequence[PerExample]) -> Float[np.ndarray, "A B"]:
    """Losses by trial and example, which by themselves average to those of the trials."""
    first, values = rows[0], np.concatenate([own.values for own in rows])
    seeds = tuple(range(len(rows)))
    return by_group(PerExample(values, first.weights, first.examples, seeds, first.examples))


def _reordered(study: Study, side: Side, examples: Sequence[str]) -> Float[np.ndarray, "N B"] | None:
    """Losses of trials less those of their reordered repetitions, by example; None without any."""
    pairs = study.pairs(side.runs.values(), study.reordered)
    rows = [[study.examples.get(run.id) for run in pair] for pair in pairs]
    whole = [(one, other) for one, other in rows if one is not None and other is not None]
    whole = [pair for pair in whole if {own.examples for own in pair} == {tuple(examples)}]
    if not whole:
        return None
    table = _table([own for of_one in zip(*whole, strict=True) for own in of_one])
    found: Float[np.ndarray, "N B"] = table[: len(whole)] - table[len(whole) :]
    return found


def _twins(study: Study, cell: Cell) -> Float[np.ndarray, "T 2"] | None:
    """Test losses of trials at the chosen rates and of their twins; None without any."""
    pairs = [(run.loss, twin.loss) for run, twin in study.pairs(cell.runs, study.twins)]
    known = [pair for pair in pairs if None not in pair]
    return np.array(known, dtype=float) if known else None


def draw_components(
    results: Sequence[Variance], unit: str = "nats", width: float = PAGE / 2, title: str = ""
) -> Figure:
    """One bar per result, and its standard deviation beside it."""
    sources = list(dict.fromkeys(source for result in results for source in result.parts))
    known = sorted({result.n for result in results})
    caption = (
        f"Share of each source in the variance of one seed's loss on one example, from {'; '.join(known)}. "
        f"On the right, the standard deviation of all together ({unit})."
    )
    if SEEDS in sources:
        caption += f" Within seeds, {NOT_TOLD_APART}."
    if ORDER in sources:
        caption += (
            f" {TOGETHER} From the data order, what single examples add to the difference of a pair is taken "
            "off, and rounding that moves single examples with it: it is biased low."
        )
    if ROUNDING in sources:
        caption += f" {HALF_PRECISION}"
    elif ORDER in sources:
        caption += f" {NO_TWINS}"
    below = [f"{source} for {result.name}" for result in results for source in result.below]
    if below:
        caption += f" Estimates below 0 are shown as 0, and no other is changed for them: {', '.join(below)}."
    looks = {s: (COLOURS[i % len(COLOURS)], HATCHES[i % len(HATCHES)]) for i, s in enumerate(sources)}
    keys = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0, label=source)
        for source, (colour, hatch) in looks.items()
    ]
    height = 0.7 + 0.3 * len(results)
    figure, (panel,) = page(1, caption, width=width, height=height, keys=keys, title=title)
    for row, result in enumerate(results):
        left = 0.0
        for source, share in shares_of(result.parts).items():
            colour, hatch = looks[source]
            panel.barh(row, share, left=left, height=0.7, color=colour, hatch=hatch, edgecolor="white", lw=0)
            if share >= LEAST:
                box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "linewidth": 0, "alpha": 0.85}
                text = f"{share:.0%}"
                panel.text(
                    left + share / 2, row, text, fontsize=SMALL - 1, ha="center", va="center", bbox=box
                )
            left += share
        panel.text(1.02, row, f"{result.deviation:.2g}", fontsize=SMALL, va="center", clip_on=False)
    panel.set_xlim(0, 1)
    panel.set_yticks(range(len(results)), [result.name for result in results])
    panel.set_ylim(len(results) - 0.5, -0.5)
    panel.set_xlabel("share of variance", fontsize=NORMAL)
    return figure
