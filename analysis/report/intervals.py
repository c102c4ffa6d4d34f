"""Intervals of a table: behind the numbers, or once in the caption where seeds are too few for any."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.inference.intervals import ONE_SEED, TWO_SEEDS
from analysis.inference.values import Interval
from analysis.report.values import number

TOO_FEW = {ONE_SEED: "One seed has no interval.", TWO_SEEDS: "Two seeds have no interval."}
"""What the caption says instead of every cell."""


def ends(interval: Interval) -> str:
    """What stands behind a number: its interval, or why it has none; nothing where seeds are too few."""
    if interval.missing in TOO_FEW:
        return ""
    if interval.missing:
        return f" ({interval.missing})"
    return f" [{number(interval.low)}, {number(interval.high)}]"


def explained(intervals: Iterable[Interval]) -> str:
    """What the caption of a table says of Student's intervals over seeds, after a space."""
    reasons = {own.missing for own in intervals}
    drawn = ["In brackets 95% intervals over seeds (Student's)."] if "" in reasons else []
    texts = [*drawn, *(text for missing, text in TOO_FEW.items() if missing in reasons)]
    return "".join(f" {text}" for text in texts)
