"""Tables of a study's results for the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text


def load_trials(path: Path) -> pd.DataFrame:
    """trials.parquet as a data frame, one row a trial."""
    return pd.read_parquet(path)


def results_table(trials: pd.DataFrame, title: str) -> Table:
    """One line a finished trial: losses on the same test examples, answers, and how far it moved."""
    table = Table(title=title, title_justify="left")
    regularisers = _regularisers(trials)
    for name in ("task", "method", "prior", *(("regularisers",) if regularisers else ()), "rate", "seed"):
        table.add_column(name)
    for name in ("no prompt", "untrained", "trained", "answers", "moved/reach", "radius quantile"):
        table.add_column(name, justify="right")
    names = {axis: _names(trials, axis) for axis in ("task", "method", "prior")}
    for row in trials.sort_values(["task", "method", "prior", "rate", "seed"]).to_dict("records"):
        if row["status"] != "finished":
            continue
        trained = not pd.isna(row["seed"])
        radius = f"{row['initial_radius_quantile']:.2f} → {row['final_radius_quantile']:.2f}"
        table.add_row(
            names["task"][row["task_parameters"]],
            names["method"][row["method_parameters"]],
            names["prior"][row["prior_parameters"]] if trained else "",
            *([regularisers[row["regularisers"]] if trained else ""] if regularisers else []),
            f"{row['rate']:g}{' rel' if row['rate_relative'] else ''}" if trained else "",
            f"{row['seed']:.0f}" if trained else "",
            _number(row["baseline_loss"]),
            _number(row["untrained_loss"]),
            _number(row["test_loss"]),
            _answers(row),
            _number(row["moved_over_reach"]),
            "" if pd.isna(row["final_radius_quantile"]) else radius,
        )
    return table


def _names(trials: pd.DataFrame, axis: str) -> dict[str, str]:
    """A name for every entry of an axis, with the parameters in which entries of one name differ."""
    return _distinct([str(text) for text in trials[f"{axis}_parameters"].dropna().unique()])


def _distinct(texts: list[str]) -> dict[str, str]:
    entries = {text: json.loads(text) for text in texts}
    names = {}
    for text, entry in entries.items():
        alike = [other["params"] for other in entries.values() if other["name"] == entry["name"]]
        differing = [k for k, v in entry["params"].items() if any(params.get(k) != v for params in alike)]
        given = [f"{k}={entry['params'][k]}" for k in differing if entry["params"][k] is not None]
        names[text] = f"{entry['name']}({', '.join(given)})" if given else entry["name"]
    return names


def _regularisers(trials: pd.DataFrame) -> dict[str, str]:
    """A name for every list of regularisers; empty where no trial has any."""
    lists = [str(text) for text in trials["regularisers"].dropna().unique()]
    terms = {text: [json.dumps(entry, sort_keys=True) for entry in json.loads(text)] for text in lists}
    names = _distinct(list({entry: None for several in terms.values() for entry in several}))
    if not names:
        return {}
    return {text: " + ".join(names[entry] for entry in several) or "none" for text, several in terms.items()}


def failures_table(trials: pd.DataFrame) -> Table | None:
    """What failed and why, or None."""
    failed = trials[trials.status == "failed"]
    if failed.empty:
        return None
    table = Table(title="Failed trials", title_justify="left", title_style="red")
    for name in ("trial", "task", "method", "prior", "why"):
        table.add_column(name, overflow="fold")
    names = _names(trials, "prior")
    for row in failed.to_dict("records"):
        prior = "" if pd.isna(row["prior_parameters"]) else names[row["prior_parameters"]]
        cells = (row["trial"], row["task"], row["method"], prior, row["error"])
        table.add_row(*map(Text, cells))
    return table


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3f}"


def _answers(row: dict[str, Any]) -> str:
    """Exact match in percent, and F1 for tasks that have it."""
    exact, f1 = row["exact_match"], row["f1"]
    if pd.isna(exact):
        return ""
    return f"EM {exact:.0%}" if pd.isna(f1) else f"EM {exact:.0%} F1 {f1:.0%}"
