"""A row per test example, of which the record has the means. One Parquet file per trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.results.folder import GONE
from softprior.results.storage import Location, local_copy
from softprior.results.tables import load_table, save_table

FORMAT = 1
"""Version of the layout, in the file's metadata."""

COLUMNS = (
    ("task", pa.string()),
    ("example", pa.string()),
    ("group", pa.string()),
    ("tokens", pa.int64()),
    ("nll", pa.float64()),
    ("correct", pa.int64()),
    ("scored", pa.int64()),
    ("shuffled_nll", pa.float64()),
    ("untrained_nll", pa.float64()),
    ("answer", pa.string()),
    ("expected", pa.list_(pa.string())),
)
"""Columns in front of the tasks' metrics: `ExampleRow`, with the task's entry as JSON in front. Files from
before accepted answers were in them lack `expected`."""

NAMES = frozenset(name for name, _ in COLUMNS)


class ExampleRow(NamedTuple):
    """One example of a test split, as measured with a trial's prompt.

    Attributes:
        example: its id.
        group: what splits keep together: an article's title, a module, a document.
        tokens: number of label tokens. This and the next three are None if an answer was generated, but the
            loss was not measured.
        nll: negative log-likelihood, summed over the label tokens, in nats.
        correct: scored label tokens that were the model's first choice.
        scored: number of scored label tokens.
        shuffled_nll: the same sum with the context swapped; None where there is no such control.
        untrained_nll: the same sum under the untrained sample; None without a trained prompt.
        answer: what was generated; None where nothing was.
        metrics: of the answer, by name; empty where there is none.
        expected: the accepted answers; empty for running text, and in rows from before they were kept.
    """

    example: str
    group: str
    tokens: int | None
    nll: float | None
    correct: int | None
    scored: int | None
    shuffled_nll: float | None
    untrained_nll: float | None
    answer: str | None
    metrics: Mapping[str, float]
    expected: tuple[str, ...] = ()


def schema(metrics: Sequence[str]) -> pa.Schema:
    """The columns of a file with these metrics."""
    return pa.schema([*COLUMNS, *((name, pa.float64()) for name in metrics)])


def save_examples(path: Location, trial: str, rows: Mapping[str, Sequence[ExampleRow]]) -> None:
    """Writes a trial's rows atomically.

    Args:
        rows: by the canonical text of the task's entry.
    """
    found = [(task, row) for task, own in rows.items() for row in own]
    metrics = list(dict.fromkeys(name for _, row in found for name in row.metrics))
    values = [
        {"task": task, **row._asdict(), "expected": list(row.expected), **row.metrics} for task, row in found
    ]
    table = pa.Table.from_pylist(values, schema=schema(metrics))
    save_table(path, table, {"format": FORMAT, "trial": trial})


def load_examples(path: Location, trial: str, count: int) -> pa.Table:
    """Reads a trial's rows.

    Args:
        trial: whose they must be.
        count: how many the trial's record says there are.

    Raises:
        UserError: the file is missing, damaged, or another trial's.
    """
    remedy = f"delete the record of trial {trial} to run it again"
    try:
        with local_copy(path) as here:
            table, header = load_table(here)
    except FileNotFoundError:
        raise UserError(f"there is no file {path} of examples; {GONE}") from None
    except (pa.ArrowException, ValueError, OSError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0].rstrip(".")
        raise UserError(f"{path} is damaged ({reason}); {remedy}") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(f"{path} is not a file of examples of format {FORMAT}; {remedy}")
    if header.get("trial") != trial:
        raise UserError(f"{path} has the examples of trial {header.get('trial')}, not of {trial}; {remedy}")
    if len(table) != count:
        raise UserError(
            f"{path} has {counted(len(table), 'row')}, but the trial's record says {count:,}; {remedy}"
        )
    return table


def rows_of(table: pa.Table) -> dict[str, list[ExampleRow]]:
    """The rows of a table again, by task, as `save_examples` takes them; null metrics are left out."""
    metrics = [name for name in table.column_names if name not in NAMES]
    found: dict[str, list[ExampleRow]] = {}
    for value in table.to_pylist():
        own = {name: value[name] for name in metrics if value[name] is not None}
        fields = {name: value[name] for name in ExampleRow._fields if name not in ("metrics", "expected")}
        expected = tuple(value.get("expected") or ())
        found.setdefault(value["task"], []).append(ExampleRow(**fields, metrics=own, expected=expected))
    return found
