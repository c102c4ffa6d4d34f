"""Names and labels of entries for older studies, whose study.json does not have them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from softprior.inputs.entries import Entry, Shown
from softprior.inputs.labels import reshown
from softprior.results.records import Record
from softprior.training.recognised import TABLES

if TYPE_CHECKING:
    import pandas as pd


class Names:
    """What is shown of entries without a plan; each is looked up once."""

    def __init__(self, labels: Mapping[tuple[str, str], str]) -> None:
        """
        Args:
            labels: by axis and canonical text, see `labels_of`.
        """
        self._labels = labels
        self._known: dict[tuple[str, str], Shown] = {}

    def record(self, record: Record) -> Record:
        """The record with what is shown of its entries."""
        also = tuple(o.model_copy(update={"task": self._shown("also", o.task)}) for o in record.also)
        return record.model_copy(update={"spec": reshown(record.spec, self._shown), "also": also})

    def _shown(self, field: str, entry: Entry) -> Entry:
        table = TABLES[field]
        key = table.axis, entry.canonical()
        if key not in self._known:
            found = table.recognised(entry).shown
            label = self._labels.get(key, found.name)
            # A name that the table has told apart by parameters is not a label, which has no brackets.
            self._known[key] = found if label.partition("(")[0] == found.name else Shown(label, found.params)
        return entry.shown_as(self._known[key])


def labels_of(table: pd.DataFrame) -> dict[tuple[str, str], str]:
    """What a trials.parquet says of each entry, by axis and canonical text."""
    found: dict[tuple[str, str], str] = {}
    if "task_label" not in table:  # of a study from before entries had labels
        return found
    for axis in ("task", "method", "prior"):
        known = table[[f"{axis}_parameters", f"{axis}_label"]].dropna().drop_duplicates()
        found |= {(f"{axis}s", text): label for text, label in known.itertuples(index=False)}
    terms = table[["regularisers", "regularisers_label"]].dropna().drop_duplicates()
    for texts, label in terms.itertuples(index=False):
        entries = [Entry.model_validate(value) for value in json.loads(texts)]
        names = label.split(" + ")
        if len(names) == len(entries):
            found |= {("regularisers", e.canonical()): name for e, name in zip(entries, names, strict=True)}
    return found
