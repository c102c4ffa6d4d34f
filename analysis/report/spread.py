"""Why seeds differ, as the report has it: the prior's draw, the data's order, and rounding."""

from __future__ import annotations

import numpy as np

from analysis.findings.study import Study
from analysis.inference.seeds import Component
from analysis.report.values import Block, Cell, Table, Words, sentence
from analysis.spread import BELOW, NOT_TOLD_APART, Spread, deviation, has_seeds, spreads


def spread_of(study: Study) -> list[Block]:
    """A table of standard deviations by prior, or why there is none; nothing where no prior has two seeds."""
    if not has_seeds(study):
        return []
    found = spreads(study)
    if not found:
        return [
            Words(sentence(f"{NOT_TOLD_APART}: seeds differ in both; evaluation.reordered tells them apart"))
        ]
    rows = tuple(map(_row, found))
    below = any(cell.text.endswith("*") for row in rows for cell in row)
    caption = (
        "Spread of seeds: standard deviation of the test loss between seeds at the rate chosen on "
        "validation, in nats, and its parts, whose squares add up. A reordered trial has the start of its "
        "original and another order of the data. In brackets the 95% interval for other seeds, on these "
        "examples, where there are enough. From test_loss, reordered and twin in trials.parquet."
    )
    columns = ("prior", "seeds", "pairs", "between seeds", "prior draw", "data order", "rounding")
    table = Table(
        caption=f"{caption} {sentence(BELOW)}" if below else caption,
        columns=columns,
        rows=rows,
        numbers=frozenset(range(1, len(columns))),
    )
    return [table]


def _row(own: Spread) -> tuple[Cell, ...]:
    parts = own.parts
    rounding = None if parts.rounding is None else float(np.sqrt(parts.rounding))
    return (
        Cell(f"{own.where} · {own.prior}"),
        Cell(str(parts.seeds), parts.seeds),
        Cell(str(parts.pairs), parts.pairs, own.trials),
        *map(_deviation, (parts.total, parts.draw, parts.order)),
        Cell("" if rounding is None else f"{rounding:.2g}", rounding),
    )


def _deviation(part: Component) -> Cell:
    return Cell(deviation(part), float(np.sqrt(part.value)))
