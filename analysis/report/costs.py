"""What the study cost: time per setting, and in all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.findings.reading import Reading
from analysis.report.values import Cell, Section, Table, Words, missing
from softprior.inputs.labels import counted
from softprior.results.records import Cost, Record

KEY, TITLE = "cost", "Cost"

COLUMNS = (
    "setting",
    "trials",
    "optimizer steps",
    "seconds",
    "trained values",
    "positions per second",
    "peak memory (GiB)",
    "peak GPU memory (GiB)",
    "seconds by phase",
    "on",
)


def section(reading: Reading) -> Section:
    """Working time of each setting, over its seeds."""
    timed = [r for r in reading.ended.values() if r.environment.get("seconds") is not None]
    if not timed:
        return missing(KEY, TITLE, "No trial has left its working time.")
    settings: dict[str, list[Record]] = {}
    for record in timed:
        settings.setdefault(reading.labels[record.id].partition(" · seed ")[0], []).append(record)
    rows = tuple(_row(setting, own) for setting, own in settings.items())
    used = [i for i in range(len(COLUMNS)) if any(row[i].text for row in rows)]
    total = sum(record.environment["seconds"] for record in timed)
    worked = f"{counted(len(timed), 'trial')} worked for {_hours(total)} together, without loading the model"
    table = Table(
        caption="Means over the trials of a setting. From seconds, steps, trained_values, "
        "positions_per_second, "
        "peak_memory and peak_gpu_memory in trials.parquet, and cost in records/TRIAL.json.",
        columns=tuple(COLUMNS[i] for i in used),
        rows=tuple(tuple(row[i] for i in used) for row in rows),
        numbers=frozenset(at for at, i in enumerate(used) if 0 < i < len(COLUMNS) - 2),
    )
    told = Words(f"{worked}; trials that run at the same time count once each.")
    return Section(key=KEY, title=TITLE, blocks=(told, table))


def _row(setting: str, records: list[Record]) -> tuple[Cell, ...]:
    costs = [record.cost for record in records if record.cost is not None]
    steps = [len(record.steps) for record in records]
    places = sorted({_machine(record.environment) for record in records})
    return (
        Cell(setting),
        Cell(str(len(records)), float(len(records)), tuple(record.id for record in records)),
        _mean([float(count) for count in steps if count], "{:.10g}"),
        _mean([record.environment["seconds"] for record in records], "{:.1f}"),
        _mean([float(cost.values) for cost in costs if cost.values], "{:,.0f}"),
        _mean([cost.per_second for cost in costs], "{:,.0f}"),
        _mean([None if cost.memory is None else cost.memory / 2**30 for cost in costs], "{:.2f}"),
        _mean([None if cost.gpu_memory is None else cost.gpu_memory / 2**30 for cost in costs], "{:.2f}"),
        Cell(_phases(costs)),
        Cell(", ".join(places)),
    )


def _mean(values: list[float | None] | list[float], form: str) -> Cell:
    known = [value for value in values if value is not None]
    if not known:
        return Cell("")
    mean = sum(known) / len(known)
    return Cell(form.format(mean), mean)


def _phases(costs: list[Cost]) -> str:
    """Mean seconds of each phase, the longest first."""
    names = dict.fromkeys(name for cost in costs for name in cost.seconds)
    means = {name: sum(cost.seconds.get(name, 0.0) for cost in costs) / len(costs) for name in names}
    return ", ".join(
        f"{name} {value:.1f}" for name, value in sorted(means.items(), key=lambda item: -item[1])
    )


def _machine(environment: Mapping[str, Any]) -> str:
    threads = environment.get("threads")
    known = f" ({counted(threads, 'thread')})" if isinstance(threads, int) else ""
    return f"{environment.get('machine', 'unknown')}{known}"


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
