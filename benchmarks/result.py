"""What a benchmark found, as one line of JSON; the table and docs/performance.md are made from such lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from json import dumps
from statistics import median


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
        cpu: processor seconds of ours.
        memory: MB of ours at the peak.
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

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value <= self.goal if self.most else self.value >= self.goal


def by_the_clock(name: str, ratios: Sequence[float]) -> Result:
    """The ratios of wall-clock times, beside a result of that name by processor time."""
    return Result(
        name=f"{name}, by the clock",
        value=median(ratios),
        low=min(ratios),
        high=max(ratios),
        unit="times (s)",
        rounds=len(ratios),
    )


def tell(result: Result) -> None:
    """Prints a result as the table reads it."""
    print(dumps({"result": asdict(result)}), flush=True)
