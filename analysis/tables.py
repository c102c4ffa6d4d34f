"""Tables of a study's results for the terminal."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from softprior.inputs.labels import names, short_ids
from softprior.inputs.specs import Entry

MEASURES = ("no prompt", "untrained", "trained", "answers", "moved/reach", "radius quantile")

SHORT = {"exact_match": "EM", "f1": "F1"}
"""Common short names of metrics in tables."""

GAP, INDENT = 2, 4
"""Blanks between columns, and in front of what a trial's own lines say."""

WHY = 100
"""Characters on a line that say why a trial failed."""


def results_table(trials: pd.DataFrame, title: str, width: int) -> RenderableType:
    """Every finished trial: losses on the same test examples, answers, and how far it moved.

    A table of one line per trial. If `width` characters are too few, cells wrap between words; if they are
    too few for the longest words of all columns, every trial has lines of its own. Words stay whole.
    """
    finished = trials[trials.status == "finished"].sort_values(["task", "method", "prior", "rate", "seed"])
    rows = finished.to_dict("records")
    ids, axes, measures = short_ids(list(trials["trial"])), _axes(trials), [_measures(row) for row in rows]
    regularised = any(axes[row["trial"]][3] for row in rows)
    header = ("task", "method", "prior", *(("regularisers",) if regularised else ()), "rate", "seed")
    cells = [["trial", *header, *MEASURES]]
    for row, values in zip(rows, measures, strict=True):
        task, method, prior, terms, rate, seed = axes[row["trial"]]
        own = (task, method, prior, *((terms,) if regularised else ()), rate, seed)
        cells.append([ids[row["trial"]], *own, *values])
    widths = _widths(cells, width)
    if widths is None:
        lines: list[RenderableType] = [Text(title, style="italic")]
        for row, values in zip(rows, measures, strict=True):
            found = [f"{name} {value}" for name, value in zip(MEASURES, values, strict=True) if value]
            lines += [
                Text(f"{ids[row['trial']]}  {row['label']}"),
                Padding(Columns(found, padding=(0, GAP)), (0, 0, 0, INDENT)),
            ]
        return Group(*lines)
    # Two blanks between columns and no lines, which would take a third of a narrow window.
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0),
    )
    for i, (name, own_width) in enumerate(zip(cells[0], widths, strict=True)):
        table.add_column(name, width=own_width, justify="left" if i <= len(header) else "right")
    for line in cells[1:]:
        table.add_row(*map(Text, line))
    return table


def _widths(cells: list[list[str]], room: int) -> list[int] | None:
    """Widths of a table's columns, the widest narrowed first, none below its longest word; None if too wide.

    Left to itself rich cuts words.
    """
    columns = list(zip(*cells, strict=True))
    least = [max(cell_len(word) for text in column for word in text.split() or [""]) for column in columns]
    widths = [max(map(cell_len, column)) for column in columns]
    room -= GAP * len(columns)
    while sum(widths) > room:
        wide = [i for i, width in enumerate(widths) if width > least[i]]
        if not wide:
            return None
        widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def _axes(trials: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Task, method, prior, regularisers, rate and seed of every trial, by trial id."""
    tasks, priors = _names(trials["task_parameters"]), _names(trials["prior_parameters"])
    # Within a task: what a written instruction says follows from the task, which has its own column.
    methods = {task: _names(own["method_parameters"]) for task, own in trials.groupby("task_parameters")}
    several = {text: _entries(text) for text in trials["regularisers"].dropna().unique()}
    terms = names(entry for entries in several.values() for entry in entries)
    found: dict[str, tuple[str, ...]] = {}
    for row in trials.to_dict("records"):
        task = row["task_parameters"]
        axes = (tasks[task], methods[task][row["method_parameters"]])
        if pd.isna(row["seed"]):
            found[row["trial"]] = (*axes, "", "", "", "")
            continue
        own = [terms[entry.canonical()] for entry in several[row["regularisers"]]]
        rate = f"{row['rate']:g}{' rel' if row['rate_relative'] else ''}"
        regularisers = (" + ".join(own) or "none") if terms else ""
        found[row["trial"]] = (
            *axes,
            priors[row["prior_parameters"]],
            regularisers,
            rate,
            f"{row['seed']:.0f}",
        )
    return found


def _names(texts: pd.Series) -> dict[str, str]:
    return names(Entry.model_validate_json(text) for text in texts.dropna().unique())


def _entries(text: str) -> list[Entry]:
    return [Entry.model_validate(value) for value in json.loads(text)]


def _measures(row: dict[str, Any]) -> list[str]:
    radius = f"{row['initial_radius_quantile']:.2f} → {row['final_radius_quantile']:.2f}"
    return [
        _number(row["baseline_loss"]),
        _number(row["untrained_loss"]),
        _number(row["test_loss"]),
        _answers(row),
        _number(row["moved_over_reach"]),
        "" if pd.isna(row["final_radius_quantile"]) else radius,
    ]


def failures_table(trials: pd.DataFrame) -> Table | None:
    """What failed and why, or None."""
    failed = trials[trials.status == "failed"]
    if failed.empty:
        return None
    table = Table(title="Failed trials", title_justify="left", title_style="red")
    table.add_column("trial", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("why", overflow="fold", max_width=WHY)
    ids = short_ids(list(trials["trial"]))
    for row in failed.to_dict("records"):
        table.add_row(*map(Text, (ids[row["trial"]], row["label"], row["error"])))
    return table


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3f}"


def _answers(row: dict[str, Any]) -> str:
    """The headline metric of the row's task in percent; nothing where no answers are generated."""
    name = row["headline"]
    if name not in row or pd.isna(row[name]):
        return ""
    return f"{SHORT.get(name, name.replace('_', ' '))} {row[name]:.0%}"
