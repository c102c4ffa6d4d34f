"""Differences with their intervals against the margins of equality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.palette import AMBER, BACKGROUND, BLUE, LINE, ORANGE
from analysis.figures.settings import no_intervals
from analysis.figures.style import NORMAL, PAGE, page
from analysis.findings.values import Finding
from softprior.inputs.labels import counted

MOST = 15
"""Most pairs that are shown: those of six priors."""

Verdict = Literal["equal", "different", "undecided", "without"]

LOOKS: dict[Verdict, tuple[str, str, str]] = {
    "equal": (BLUE, "o", "equal: the interval lies within the margin"),
    "different": (ORANGE, "s", "different: it lies beyond the margin"),
    "undecided": (AMBER, "D", "undecided: it crosses the margin"),
    "without": (LINE, "X", "no interval: see the table"),
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One comparison.

    Attributes:
        name: what is compared, such as `fitted - isotropic`.
        value: the estimate, in the unit of the plot.
        low, high: its interval; nan where there is none.
        seeds: n.
        missing: why there is no interval; empty where there is one.
    """

    name: str
    value: float
    low: float
    high: float
    seeds: int
    missing: str = ""

    def verdict(self, margin: float) -> Verdict:
        """What the interval says at a margin."""
        if self.missing:
            return "without"
        if -margin < self.low and self.high < margin:
            return "equal"
        return "different" if self.low > margin or self.high < -margin else "undecided"


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Comparisons that are judged by one margin.

    Attributes:
        margin: differences up to this count as none; the same on both sides.
        level: of the intervals; 0.9 is that of two one-sided tests at 5%.
        unit: of the numbers.
        where: the cell of the study; empty if there is one.
        left_out: number of comparisons that are not shown.
    """

    differences: tuple[Difference, ...]
    margin: float
    level: float = 0.9
    unit: str = "nats"
    where: str = ""
    left_out: int = 0


def equivalence_of(finding: Finding) -> Equivalence | None:
    """The numbers of a finding that tests equality; None where it has none.

    Of more than `MOST` pairs those with the study's first prior alone.
    """
    if finding.margin is None or not finding.comparisons:
        return None
    known = [own for own in finding.comparisons if own.equivalence is not None]
    if len(known) > MOST:
        known = [own for own in known if own.referenced]
    return Equivalence(
        differences=tuple(
            Difference(
                name=own.what,
                value=own.value,
                low=own.equivalence.low,
                high=own.equivalence.high,
                seeds=own.seeds,
                missing=own.equivalence.missing,
            )
            for own in known
            if own.equivalence is not None
        ),
        margin=finding.margin,
        where=finding.where,
        left_out=len(finding.comparisons) - len(known),
    )


def draw_equivalence(found: Equivalence, width: float = PAGE / 2) -> Figure:
    """One line per comparison, the first on top."""
    seeds = [difference.seeds for difference in found.differences]
    n = f"{min(seeds)} to {max(seeds)}" if len(set(seeds)) > 1 else str(seeds[0])
    verdicts = [difference.verdict(found.margin) for difference in found.differences]
    drawn = f" with {found.level:.0%} intervals" if set(verdicts) != {"without"} else ""
    caption = (
        f"Differences over {n} seeds{drawn}. Shaded: the margin of equality, "
        f"± {found.margin:.3g} {found.unit}."
    )
    caption += no_intervals((difference.missing for difference in found.differences), "differences")
    if found.left_out:
        caption += f" Against the first prior; {counted(found.left_out, 'other pair')} not shown."
    keys = [
        Line2D([], [], color=colour, marker=marker, markersize=5, linewidth=1.5, label=label)
        for verdict, (colour, marker, label) in LOOKS.items()
        if verdict in verdicts
    ]
    height = 0.75 + 0.22 * len(found.differences)
    figure, (panel,) = page(1, caption, width=width, height=height, keys=keys, title=found.where)
    panel.axvspan(-found.margin, found.margin, color=BACKGROUND, alpha=0.5, linewidth=0)
    panel.axvline(0, color=LINE, linewidth=0.8)
    for row, (difference, verdict) in enumerate(zip(found.differences, verdicts, strict=True)):
        colour, marker, _ = LOOKS[verdict]
        panel.plot((difference.low, difference.high), (row, row), color=colour, linewidth=1.5)
        panel.plot(difference.value, row, marker, color=colour, markersize=5)
    ends = np.array([v for d in found.differences for v in (d.low, d.high, d.value)])
    ends = np.append(ends[np.isfinite(ends)], (-found.margin, found.margin))
    room = 0.06 * (ends.max() - ends.min())
    panel.set_xlim(ends.min() - room, ends.max() + room)
    panel.set_yticks(range(len(verdicts)), [difference.name for difference in found.differences])
    panel.set_ylim(len(verdicts) - 0.5, -0.5)
    panel.set_xlabel(f"difference ({found.unit})", fontsize=NORMAL)
    return figure
