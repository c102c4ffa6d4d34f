"""What a benchmark found, as one line of JSON; the table and docs/performance.md are made from such lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from json import dumps
from statistics import median

from benchmarks.watched import Took


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
        tokens: positions of texts in the work, without pads; of studies those that the plan counts, with
            the prompts of training steps.
        operations: of the matrix products in the work, see `benchmarks.needed`.
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


def of_rounds(
    name: str,
    values: Sequence[float],
    unit: str,
    took: Took | None = None,
    *,
    goal: float | None = None,
    most: bool = False,
    ours: float | None = None,
    peer: float | None = None,
    limit: float | None = None,
    tokens: int | None = None,
    operations: float | None = None,
) -> Result:
    """The median of the rounds' values; for the other arguments see `Result`.

    Args:
        took: seconds and memory of ours.
    """
    return Result(
        name=name,
        value=median(values),
        low=min(values),
        high=max(values),
        unit=unit,
        rounds=len(values),
        goal=goal,
        most=most,
        ours=ours,
        peer=peer,
        limit=limit,
        seconds=None if took is None else took.seconds,
        cpu=None if took is None else took.cpu,
        memory=None if took is None else took.memory,
        tokens=tokens,
        operations=operations,
    )


def tell(result: Result) -> None:
    """Prints a result as the table reads it."""
    print(dumps({"result": asdict(result)}), flush=True)
