"""Why seeds differ, for the report: the prior's draw, the data's order, and rounding."""

from __future__ import annotations

import numpy as np

from analysis.findings.reading import Reading
from analysis.inference.seeds import Component
from analysis.report.values import Block, Cell, Table, Words, sentence
from analysis.spread import NOT_TOLD_APART, Spread, caveats, deviation, has_seeds, notes, spreads
from softprior.inputs.labels import by_number, counted


def spread_of(reading: Reading) -> list[Block]:
    """A table of standard deviations by prior, or why there is none; nothing where no prior has two seeds."""
    if not has_seeds(reading.study):
        return []
    found = spreads(reading.study)
    if not found:
        return [Words(sentence(f"{NOT_TOLD_APART}: seeds differ in both{_remedy(reading)}"))]
    rows = tuple(map(_row, found))
    caption = (
        "Spread of seeds: standard deviation of the test loss between seeds at the rate chosen on "
        "validation, in nats, and its parts, whose squares add up where none is below 0. Rounding is pooled "
        "over the priors of a combination, including those without twins of their own, and subtracted "
        f"from the data order. {' '.join(caveats(found))} A reordered trial has the start of its original "
        "and another order of the data. In brackets the 95% interval for other seeds, on these examples, "
        "where there are enough. From test_loss, reordered and twin in trials.parquet."
    )
    columns = ("prior", "seeds", "pairs", "between seeds", "prior draw", "data order", "rounding")
    table = Table(
        caption=" ".join([caption, *map(sentence, notes(found))]),
        columns=columns,
        rows=rows,
        numbers=frozenset(range(1, len(columns))),
    )
    return [table]


def _remedy(reading: Reading) -> str:
    """What would tell them apart; nothing to a search, which cannot have reordered trials."""
    spec = reading.header.get("spec", {})
    if spec.get("search"):
        return ""
    asked = spec.get("evaluation", {}).get("reordered", 0)
    if not asked:
        return "; evaluation.reordered tells them apart"
    first = list(spec.get("seeds", ()))[:asked]
    study = reading.study
    open_ = sum(run.seed in first and run.id not in study.reordered for run in study.runs)
    return f"; {counted(open_, 'reordered trial')} {by_number(open_, 'has', 'have')} not finished"


def _row(own: Spread) -> tuple[Cell, ...]:
    parts = own.parts
    rounding = None if parts.rounding is None else float(np.sqrt(parts.rounding))
    return (
        Cell(f"{own.where} · {own.prior}"),
        Cell(str(parts.seeds), parts.seeds, own.trials),
        Cell(str(parts.pairs), parts.pairs, own.reordered),
        _deviation(parts.total, own.trials),
        _deviation(parts.draw, tuple(dict.fromkeys((*own.trials, *own.reordered))), parts.total),
        _deviation(parts.order, (*own.reordered, *own.twins), parts.total),
        Cell("" if rounding is None else f"{rounding:.2g}", rounding, own.twins),
    )


def _deviation(part: Component, trials: tuple[str, ...], whole: Component | None = None) -> Cell:
    return Cell(deviation(part, whole), float(np.sqrt(part.value)), trials)
