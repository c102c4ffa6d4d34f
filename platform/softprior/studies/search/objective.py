"""The numbers a search minimises, read from the records of one proposal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from softprior.results.records import Record
from softprior.studies.search.spec import Objective


def values(objectives: Sequence[Objective], records: Sequence[Record]) -> tuple[float, ...] | None:
    """A value for every objective, the mean over the records of a proposal; None where one is not finite."""
    found = [sum(_value(o, record) for record in records) / len(records) for o in objectives]
    return tuple(found) if all(map(math.isfinite, found)) else None


def _value(objective: Objective, record: Record) -> float:
    if objective.name == "validation_loss":
        return record.validation[-1].loss if record.validation else math.nan
    if objective.name == "distance_moved":
        moved = [place.moved for place in record.geometry.values()]
        return sum(moved) / len(moved) if moved else math.nan
    assert objective.loss is not None
    assert record.spec.training is not None
    reached = [float(score.step) for score in record.validation if score.loss <= objective.loss]
    # One that never arrives is worse than one that arrives at the end, and still a number.
    return reached[0] if reached else record.spec.training.steps + 1.0
