"""Where the variance of a result comes from: the prior's draw, the data's order, examples, rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.figures.palette import COLOURS
from analysis.figures.style import NORMAL, PAGE, SMALL, page
from analysis.findings.study import Cell, Study
from analysis.inference.components import components
from analysis.inference.intervals import by_group
from analysis.inference.values import PerExample
from softprior.inputs.labels import counted

HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++")

LEAST = 0.08
"""Share below which a bar's part is too narrow for its number."""


@dataclass(frozen=True, kw_only=True)
class Variance:
    """One result.

    Attributes:
        name: a prior or a cell.
        parts: variance by source, in squared units of the result, none below 0.
        n: what they are estimated from, in words.
    """

    name: str
    parts: Mapping[str, float]
    n: str

    def shares(self) -> dict[str, float]:
        """The parts over their sum; all 0 where nothing varies."""
        total = sum(self.parts.values())
        return {source: part / total if total else 0.0 for source, part in self.parts.items()}


def components_of(study: Study, cell: Cell) -> list[Variance]:
    """Variance of one seed's loss on one example, by prior at its chosen rate.

    Seeds (the prior's draw and the data's order together), examples, and what is neither: how a seed's loss
    on one example differs from what both make of it. Where the cell has twins, rounding is a part of seeds,
    pooled over priors, as one pair can be close by chance. Priors without two seeds on the same examples
    are left out.
    """
    found = []
    twins = _twins(study, cell)
    for side in cell.sides.values():
        known = [study.examples.get(run.id) for run in side.runs.values()]
        rows = [own for own in known if own is not None]
        if len(rows) < 2 or len(rows) < len(known) or len({own.examples for own in rows}) > 1:
            continue
        first = rows[0]
        values = np.concatenate([own.values for own in rows])
        if values.shape[1] < 2:
            continue
        table = by_group(PerExample(values, first.weights, first.examples, tuple(side.runs), first.examples))
        own = components(table, twins)
        rounding = min(own.rows, own.rounding or 0.0)
        parts = {"seeds": own.rows - rounding, "examples": own.columns, "seeds x examples": own.rest}
        if own.rounding is not None:
            parts["rounding"] = rounding
        n = f"{counted(len(rows), 'seed')} x {counted(values.shape[1], 'example')}"
        found.append(Variance(name=side.name, parts=parts, n=n))
    return found


def _twins(study: Study, cell: Cell) -> Float[np.ndarray, "T 2"] | None:
    """Test losses of trials at the chosen rates and of their twins; None without any."""
    pairs = [(run.loss, twin.loss) for run, twin in study.pairs(cell.runs)]
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
    looks = {s: (COLOURS[i % len(COLOURS)], HATCHES[i % len(HATCHES)]) for i, s in enumerate(sources)}
    keys = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0, label=source)
        for source, (colour, hatch) in looks.items()
    ]
    height = 0.7 + 0.3 * len(results)
    figure, (panel,) = page(1, caption, width=width, height=height, keys=keys, title=title)
    for row, result in enumerate(results):
        left = 0.0
        for source, share in result.shares().items():
            colour, hatch = looks[source]
            panel.barh(row, share, left=left, height=0.7, color=colour, hatch=hatch, edgecolor="white", lw=0)
            if share >= LEAST:
                box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "linewidth": 0, "alpha": 0.85}
                text = f"{share:.0%}"
                panel.text(
                    left + share / 2, row, text, fontsize=SMALL - 1, ha="center", va="center", bbox=box
                )
            left += share
        deviation = sum(result.parts.values()) ** 0.5
        panel.text(1.02, row, f"{deviation:.2g}", fontsize=SMALL, va="center", clip_on=False)
    panel.set_xlim(0, 1)
    panel.set_yticks(range(len(results)), [result.name for result in results])
    panel.set_ylim(len(results) - 0.5, -0.5)
    panel.set_xlabel("share of variance", fontsize=NORMAL)
    return figure
