"""Tables of a study's results for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.narrow import Column, tables
from softprior.inputs.labels import NO_TERMS, Axes, common, common_in_words, counted, short_ids
from softprior.inputs.specs import REPEATS, Rate

AXES = Axes._fields

NAMES = ("method", "prior", "regularisers")
"""Axes whose values are names, not numbers."""

SETTING = ("task", "method", "prior", "rate", "rate_relative")
"""Columns in which trials of one setting are alike, beside the labels."""

SHORT = {"exact_match": "EM", "f1": "F1"}
"""Common short names of metrics in tables."""

MANY = 40
"""Finished trials of which each has a line. Of more, each setting has one, with means over its seeds."""

WHY = 100
"""Characters on a line that say why a trial failed."""


def results_table(trials: pd.DataFrame, title: str, width: int) -> RenderableType:
    """Every finished trial: losses on the same test examples, answers, and how far it moved.

    One table per task, with one line per trial, under what all have in common; of more than `MANY` trials one
    line per setting if it has seeds, with means over them, repeated trials left out. Where `width` characters
    are too few, names wrap and numbers move below. Nothing is cut.
    """
    order = ["task", "task_label", "method", "method_label", "prior", "prior_label", "rate", "seed"]
    order += REPEATS
    # Repeated trials come behind the trials that they repeat, of which these columns are null.
    finished = trials[trials.status == "finished"].sort_values(order, na_position="first")
    own = {row["trial"]: _axes(row) for row in trials.to_dict("records")}
    ids, count = short_ids(list(trials["trial"])), len(finished)
    settings = _over_seeds(finished)
    many = len(settings) < count > MANY
    if many:
        finished = settings
        own = {trial: own[trial]._replace(seed=None, repeat=None) for trial in finished["trial"]}
    same, said = common(own.values()), common_in_words(own.values(), AXES[1:])
    parts: list[RenderableType] = [Text(f"{title}: {said}" if said else title, style="bold")]
    if many:
        averaged = int(settings["seeds"].sum())
        without = f"; {counted(count - averaged, 'repeated trial')} left out" if averaged < count else ""
        parts.append(
            Text(f"means over seeds of {averaged:,} trials{without}; trials.parquet has each of them")
        )
    for task, rows in finished.groupby("task_label", sort=False):
        told = rows.to_dict("records")
        baseline = _number(told[0]["baseline_loss"])
        names = [
            Column(axis, [_cell(own[row["trial"]], axis) for row in told], axis in NAMES)
            for axis in AXES[1:]
            if axis not in same
        ]
        if many:
            first = [Column("row", [str(i) for i in range(1, len(told) + 1)], True), *names]
            columns = [*first, Column("seeds", [f"{row['seeds']:.0f}" for row in told]), *_measures(told)]
        else:
            columns = [Column("trial", [ids[row["trial"]] for row in told], True), *names, *_measures(told)]
        parts += [Text(""), Text(f"{task}: no prompt {baseline}" if baseline else str(task))]
        parts += tables(columns, width)
    return Group(*parts)


def _over_seeds(finished: pd.DataFrame) -> pd.DataFrame:
    """One row per setting: numbers are means over its seeds, `spread` is the deviation of the test loss."""
    alone = finished[finished[list(REPEATS)].isna().all(axis=1)]
    setting = [*SETTING, *(f"{axis}_label" for axis in ("task", *NAMES))]
    numbers = [name for name in alone.select_dtypes("number") if name not in ("seed", *setting)]
    groups = alone.groupby(setting, sort=False, dropna=False)
    means = (
        groups[numbers]
        .mean()
        .assign(
            trial=groups["trial"].first(),
            headline=groups["headline"].first(),
            seeds=groups.size(),
            spread=groups["test_loss"].std(),
            **dict.fromkeys(REPEATS),
        )
    )
    return means.reset_index()


def _axes(row: dict[str, Any]) -> Axes:
    if pd.isna(row["prior_label"]):
        return Axes(row["task_label"], row["method_label"])
    rate = Rate(value=row["rate"], relative=row["rate_relative"])
    terms = () if row["regularisers_label"] == NO_TERMS else (row["regularisers_label"],)
    axes = (row["task_label"], row["method_label"], row["prior_label"])
    repeat = next((kind for kind in REPEATS if not pd.isna(row[kind])), None)
    return Axes(*axes, terms, rate.label, f"{row['seed']:.0f}", repeat)


def _cell(own: Axes, axis: str) -> str:
    if axis == "regularisers":
        return "" if own.prior is None else " + ".join(own.regularisers) or NO_TERMS
    return getattr(own, axis) or ""


def _measures(rows: Sequence[dict[str, Any]]) -> list[Column]:
    """What was measured of trials of one task, whose headline metric is in percent."""
    metric = rows[0]["headline"]
    answers = [row.get(metric) if metric != "loss" else None for row in rows]
    return [
        Column("untrained", [_number(row["untrained_loss"]) for row in rows]),
        Column("trained", [_spread(row) for row in rows]),
        Column("swapped", [_gap(row["shuffled_loss"] - row["test_loss"]) for row in rows]),
        Column(
            SHORT.get(metric, metric.replace("_", " ")),
            ["" if pd.isna(value) else f"{value:.0%}" for value in answers],
        ),
        Column("moved/reach", [_number(row["moved_over_reach"]) for row in rows]),
        Column("radius quantile", [_radius(row) for row in rows]),
        *_elsewhere(rows),
    ]


def _elsewhere(rows: Sequence[dict[str, Any]]) -> list[Column]:
    """What prompts change in the losses of other tasks: on running text, what they forget."""
    first, last = "also/", "/baseline_loss"
    tasks = [
        key.removeprefix(first).removesuffix(last)
        for key in rows[0]
        if key.startswith(first) and key.endswith(last)
    ]
    return [
        Column(f"on {task}", [_change(row, f"{first}{task}") for row in rows])
        for task in tasks
        if task != rows[0]["task_label"]
    ]


def _change(row: dict[str, Any], task: str) -> str:
    return "" if row["method"] == "none" else _gap(row[f"{task}/loss"] - row[f"{task}/baseline_loss"])


def _spread(row: dict[str, Any]) -> str:
    spread = row.get("spread")
    return _number(row["test_loss"]) + ("" if pd.isna(spread) else f" ± {spread:.3f}")


def _gap(value: float) -> str:
    """What swapping contexts between examples adds to the loss; nothing for tasks without contexts."""
    return "" if pd.isna(value) else f"{value:+.3f}"


def _radius(row: dict[str, Any]) -> str:
    first, last = row["initial_radius_quantile"], row["final_radius_quantile"]
    return "" if pd.isna(last) else f"{first:.2f}→{last:.2f}"


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
