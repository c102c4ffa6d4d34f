"""Tables of a study's results for the terminal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.table import Table


def load_trials(path: Path) -> pd.DataFrame:
    """trials.parquet as a data frame, one row a trial."""
    return pd.read_parquet(path)


def results_table(trials: pd.DataFrame, title: str) -> Table:
    """One line a trial: losses against no prompt, answers, how far it moved, where it stands."""
    table = Table(title=title, title_justify="left")
    for name in ("task", "method", "prior", "rate", "seed"):
        table.add_column(name)
    for name in ("no prompt", "start", "trained", "answers", "moved/reach", "radius quantile"):
        table.add_column(name, justify="right")
    for row in trials.sort_values(["task", "method", "prior", "rate", "seed"]).itertuples():
        if row.status != "finished":
            continue
        untrained = pd.isna(row.seed)
        radius = (
            ""
            if pd.isna(row.final_radius_quantile)
            else (f"{row.initial_radius_quantile:.2f} → {row.final_radius_quantile:.2f}")
        )
        table.add_row(
            row.task,
            row.method,
            "" if untrained else row.prior,
            "" if untrained else f"{row.rate:g}{' rel' if row.rate_relative else ''}",
            "" if untrained else str(int(row.seed)),
            _number(row.baseline_loss),
            "" if untrained else _number(row.initial_validation_loss),
            _number(row.test_loss),
            _answers(row),
            _number(row.moved_over_reach),
            radius,
        )
    return table


def failures_table(trials: pd.DataFrame) -> Table | None:
    """What failed and why, or None."""
    failed = trials[trials.status == "failed"]
    if failed.empty:
        return None
    table = Table(title="Failed trials", title_justify="left", title_style="red")
    for name in ("trial", "task", "method", "prior", "why"):
        table.add_column(name, overflow="fold")
    for row in failed.itertuples():
        table.add_row(row.trial, row.task, row.method, row.prior or "", row.error or "")
    return table


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3f}"


def _answers(row: object) -> str:
    """EM and F1 in percent for tasks that have both, exact match for the others."""
    exact, f1 = row.exact_match, row.f1  # type: ignore[attr-defined]
    if pd.isna(exact):
        return ""
    return f"EM {exact:.0%}" if pd.isna(f1) else f"EM {exact:.0%} F1 {f1:.0%}"
