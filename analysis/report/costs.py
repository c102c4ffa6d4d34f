"""What the study cost: time per setting, and in all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from analysis.findings.reading import Reading
from analysis.report.values import Cell, Section, Words, compact, missing, said_once
from softprior.inputs.labels import counted
from softprior.results.records import Cost, Record
from softprior.training.cost import START, WAITING

KEY, TITLE = "cost", "Cost"

COLUMNS = (
    "setting",
    "trials",
    "optimizer steps",
    "seconds without the start",
    "losses of the start (seconds)",
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
    same, rows = said_once(COLUMNS, [_row(setting, own) for setting, own in settings.items()], ("on",))
    total = sum(record.environment["seconds"] for record in timed)
    worked = (
        f"{counted(len(timed), 'trial')} worked for {_hours(total)} together, without loading the model, "
        "geometry and sanity checks"
    )
    table = compact(
        caption=f"Means over the trials of a setting.{same} The losses of a start are computed by the first "
        "trial that needs them, so they are in none of the other columns, while the seconds in the table of "
        "trials include them. Geometry and sanity are phases that come on top of a trial's seconds, and "
        "reports of progress and what happens between phases are in none. From seconds, steps, "
        "trained_values, positions_per_second, peak_memory and peak_gpu_memory in trials.parquet, and cost "
        "in records/TRIAL.json.",
        columns=COLUMNS,
        rows=rows,
        numbers=COLUMNS[1:-2],
    )
    told = Words(f"{worked}; trials that run at the same time count once each.")
    return Section(key=KEY, title=TITLE, blocks=(told, table))


def _row(setting: str, records: list[Record]) -> tuple[Cell, ...]:
    def mean(number: Callable[[Record], float | None], form: str) -> Cell:
        known = {r.id: value for r in records if (value := number(r)) is not None}
        value = sum(known.values()) / len(known) if known else None
        return Cell("" if value is None else form.format(value), value, tuple(known))

    def cost(number: Callable[[Cost], float | None]) -> Callable[[Record], float | None]:
        return lambda record: None if record.cost is None else number(record.cost)

    places = sorted({_machine(record.environment) for record in records})
    return (
        Cell(setting),
        Cell(str(len(records)), float(len(records)), tuple(record.id for record in records)),
        mean(lambda record: len(record.steps) or None, "{:,.10g}"),
        mean(lambda record: record.environment["seconds"] - _start(record), "{:.1f}"),
        mean(lambda record: _start(record) or None, "{:.1f}"),
        mean(cost(lambda own: own.values or None), "{:,.0f}"),
        mean(cost(lambda own: own.per_second), "{:,.0f}"),
        mean(cost(lambda own: _gib(own.memory)), "{:.2f}"),
        mean(cost(lambda own: _gib(own.gpu_memory)), "{:.2f}"),
        Cell(_phases([r.cost for r in records if r.cost is not None])),
        Cell(", ".join(places)),
    )


def _start(record: Record) -> float:
    """Seconds for the losses of its start; 0 if another trial computed them or no phase has them."""
    return 0.0 if record.cost is None else record.cost.seconds.get(START, 0.0)


def _gib(size: int | None) -> float | None:
    return None if size is None else size / 2**30


def _phases(costs: list[Cost]) -> str:
    """Mean seconds of each phase that took a tenth of one at least, the longest first."""
    names = dict.fromkeys(name for cost in costs for name in cost.seconds if name not in (START, WAITING))
    means = {name: sum(cost.seconds.get(name, 0.0) for cost in costs) / len(costs) for name in names}
    return ", ".join(
        f"{name} {value:.1f}"
        for name, value in sorted(means.items(), key=lambda item: -item[1])
        if value >= 0.1
    )


def _machine(environment: Mapping[str, Any]) -> str:
    threads = environment.get("threads")
    known = f" ({counted(threads, 'thread')})" if isinstance(threads, int) else ""
    return f"{environment.get('machine', 'unknown')}{known}"


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
