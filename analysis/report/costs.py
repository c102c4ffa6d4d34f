"""What the study cost: time per setting, and in all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.report.read import Reading
from analysis.report.values import Cell, Section, Table, Words, missing, number
from softprior.inputs.labels import counted
from softprior.results.records import Record

KEY, TITLE = "cost", "Cost"


def section(reading: Reading) -> Section:
    """Working time of each setting, over its seeds."""
    timed = [r for r in reading.records.values() if r.environment.get("seconds") is not None]
    if not timed:
        return missing(KEY, TITLE, "No trial has left its working time.")
    settings: dict[str, list[Record]] = {}
    for record in timed:
        settings.setdefault(reading.labels[record.id].partition(" · seed ")[0], []).append(record)
    rows = tuple(_row(setting, own) for setting, own in settings.items())
    total = sum(record.environment["seconds"] for record in timed)
    return Section(
        key=KEY,
        title=TITLE,
        blocks=(
            Words(
                f"{counted(len(timed), 'trial')} worked for {_hours(total)} together, without loading the "
                "model; "
                "trials that run at the same time count once each."
            ),
            Table(
                caption="Working time by setting, means over its trials. From seconds and steps in "
                "trials.parquet.",
                columns=("setting", "trials", "optimizer steps", "seconds", "seconds per step", "on"),
                rows=rows,
                numbers=frozenset({1, 2, 3, 4}),
            ),
        ),
    )


def _row(setting: str, records: list[Record]) -> tuple[Cell, ...]:
    seconds = [record.environment["seconds"] for record in records]
    steps = [len(record.steps) for record in records]
    time, count = sum(seconds) / len(seconds), sum(steps) / len(steps)
    each = sum(seconds) / sum(steps) if sum(steps) else None
    places = sorted({_machine(record.environment) for record in records})
    return (
        Cell(setting),
        Cell(str(len(records)), float(len(records)), tuple(record.id for record in records)),
        Cell(f"{count:.10g}" if count else "", count),
        Cell(f"{time:.1f}", time),
        Cell(number(each), each),
        Cell(", ".join(places)),
    )


def _machine(environment: Mapping[str, Any]) -> str:
    threads = environment.get("threads")
    known = f" ({counted(threads, 'thread')})" if isinstance(threads, int) else ""
    return f"{environment.get('machine', 'unknown')}{known}"


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
