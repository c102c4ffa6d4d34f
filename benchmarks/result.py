"""What a benchmark found, as one line of JSON; the table and docs/performance.md are made from such lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from json import dumps
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row of the table.

    Attributes:
        name: of the row.
        value: what the goal is about: a ratio of ours to the peer's or to the limit, or a number in `unit`.
        unit: of `value`, `ours`, `peer` and `limit` where these are given; of a ratio that of its two parts.
        goal: what `value` should reach; None if there is none.
        most: whether `value` should be at most the goal, not at least.
        low, high: the least and the greatest of the rounds; None for a single one.
        ours, peer, limit: medians, where they were kept.
        seconds: by the clock, of ours.
        cpu: processor seconds of ours.
        memory: MB of ours at the peak.
        tokens: positions of texts in the work, without pads.
        operations: those of the products that the work needs.
    """

    name: str
    value: float
    unit: str
    rounds: int
    goal: float | None = None
    most: bool = False
    low: float | None = None
    high: float | None = None
    ours: float | None = None
    peer: float | None = None
    limit: float | None = None
    seconds: float | None = None
    cpu: float | None = None
    memory: float | None = None
    tokens: int | None = None
    operations: float | None = None

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value <= self.goal if self.most else self.value >= self.goal


def of_rounds(name: str, values: Sequence[float], unit: str, **known: Any) -> Result:
    """The median of the rounds' values.

    Args:
        known: other attributes of the result.
    """
    low, high = min(values), max(values)
    return Result(name=name, value=median(values), low=low, high=high, unit=unit, rounds=len(values), **known)


def by_the_clock(name: str, ratios: Sequence[float], **known: Any) -> Result:
    """The ratios of wall-clock times, beside a result of that name by processor time."""
    return of_rounds(f"{name}, by the clock", ratios, "times (s)", **known)


def tell(result: Result) -> None:
    """Prints a result as the table reads it."""
    print(dumps({"result": asdict(result)}), flush=True)
