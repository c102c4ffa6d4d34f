"""Tables of a search for the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from softprior.inputs.labels import short_ids
from softprior.studies.search.summary import Summary


def best_table(summary: Summary, title: str) -> Table:
    """The best points, the lowest first: values, what was chosen, and the trials behind them."""
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("proposal", justify="right")
    for objective in summary.objectives:
        table.add_column(objective, justify="right")
    table.add_column("chosen", overflow="fold")
    table.add_column("trial")
    ids = short_ids([trial for point in summary.points for trial in point.trials])
    for point in summary.best:
        values = [f"{value:.4g}" for value in point.values]
        chosen = ", ".join(f"{name}={_text(value)}" for name, value in point.params.items())
        trials = " ".join(ids[trial] for trial in point.trials)
        table.add_row(*map(Text, (str(point.number), *values, chosen, trials)))
    return table


def importance_table(summary: Summary) -> Table | None:
    """Which parameters told good points from others, for every objective; None with too few points."""
    names = list(dict.fromkeys(name for found in summary.importances for name in found))
    if not names:
        return None
    table = _table("importance")
    table.add_column("parameter")
    for objective in summary.objectives:
        table.add_column(objective, justify="right")
    for name in names:
        shares = [f"{found[name]:.0%}" if name in found else "" for found in summary.importances]
        table.add_row(*map(Text, (name, *shares)))
    return table


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
