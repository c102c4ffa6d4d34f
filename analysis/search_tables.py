"""Tables of a search for the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from analysis.narrow import Column, tables
from softprior.inputs.labels import short_ids
from softprior.studies.search.summary import ENOUGH, Summary


def best_table(summary: Summary, title: str, width: int) -> RenderableType:
    """The best points, the lowest first: values, what was chosen, and the trials behind them.

    What all of them have chosen is said once, above.
    """
    ids = short_ids([trial for point in summary.points for trial in point.trials])
    chosen = [{name: _text(value) for name, value in point.params.items()} for point in summary.best]
    common = dict(set.intersection(*(set(own.items()) for own in chosen))) if len(chosen) > 1 else {}
    told = [(name, value) for name, value in (chosen[0] if chosen else {}).items() if name in common]
    columns = [
        Column("proposal", [str(point.number) for point in summary.best]),
        *(
            Column(objective, [f"{point.values[i]:.4g}" for point in summary.best])
            for i, objective in enumerate(summary.objectives)
        ),
        Column(
            "chosen", [_line(item for item in own.items() if item[0] not in common) for own in chosen], True
        ),
        Column("trial", [" ".join(ids[trial] for trial in point.trials) for point in summary.best], True),
    ]
    heads = [title, *([f"all with {_line(told)}"] if told else [])]
    return Group(*map(Text, heads), *tables(columns, width))


def importance_table(summary: Summary, width: int) -> RenderableType | None:
    """Which parameters told good points from others, for every objective; None with too few points."""
    names = list(dict.fromkeys(name for found in summary.importances for name in found))
    if not names:
        return None
    shares = [
        Column(objective, [f"{found[name]:.0%}" if name in found else "" for name in names])
        for objective, found in zip(summary.objectives, summary.importances, strict=True)
    ]
    title = "importance"
    if summary.chancy:
        title += f" (mostly chance: fewer than {ENOUGH} finished proposals per parameter)"
    return Group(Text(title), *tables([Column("parameter", names, True), *shares], width))


def _line(chosen: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name}={value}" for name, value in chosen)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
