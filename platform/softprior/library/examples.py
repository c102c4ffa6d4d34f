"""The rows per test example of all trials of a study as one table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from softprior.errors import LeftOutWarning, UserError
from softprior.inputs.entry_texts import names
from softprior.inputs.labels import counted
from softprior.results.folder import StudyFolder
from softprior.results.records import READERS, Record

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def examples_table(
    folder: StudyFolder, records: Mapping[str, Record], labels: Mapping[str, str]
) -> pd.DataFrame:
    """Columns trial, label, those of a trial's file with the task's name for its entry, and all metrics."""
    import pyarrow as pa

    from softprior.results.examples import load_examples, schema

    wanted = {trial: record for trial, record in records.items() if record.examples is not None}

    def read(record: Record) -> pa.Table | UserError:
        try:
            return load_examples(folder.examples(record.id), record.id, record.examples or 0)
        except UserError as error:
            return error

    with ThreadPoolExecutor(READERS) as pool:
        found = dict(zip(wanted, pool.map(read, wanted.values()), strict=True))
    lost = [table for table in found.values() if isinstance(table, UserError)]
    if lost:
        left = f"the examples of {counted(len(lost), 'trial')} are left out: {lost[0]}"
        warnings.warn(left, LeftOutWarning, stacklevel=3)
    known = names(task for record in wanted.values() for task in record.tasks)
    tables = [
        _named(table, trial, labels[trial], known)
        for trial, table in found.items()
        if not isinstance(table, UserError)
    ]
    if not tables:
        tables = [_named(schema(()).empty_table(), "", "", {})]
    return pa.concat_tables(tables, promote_options="default").to_pandas()


def _named(table: pa.Table, trial: str, label: str, tasks: Mapping[str, str]) -> pa.Table:
    """A trial's rows with the columns that say whose they are, and a name for every task."""
    import pyarrow as pa

    table = table.replace_schema_metadata(None)
    named = [tasks[text] for text in table["task"].to_pylist()]
    table = table.set_column(0, "task", pa.array(named, pa.string()))
    for at, (name, value) in enumerate((("trial", trial), ("label", label))):
        table = table.add_column(at, name, pa.array([value] * len(table), pa.string()))
    return table
