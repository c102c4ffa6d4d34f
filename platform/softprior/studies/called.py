"""Labels that a study file gives to its entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from softprior.errors import UserError
from softprior.inputs.base import SpecT
from softprior.inputs.components import Table
from softprior.inputs.entries import Entry, LabelledEntry


class Called(NamedTuple):
    """The labels by axis, and by the canonical text of the entry there."""

    labels: Mapping[str, Mapping[str, str]]

    def entry(self, table: Table[SpecT], component: SpecT, named: SpecT | None = None) -> Entry:
        """The entry of a component, shown under its label.

        Args:
            named: the component as the study file names it, if it has changed since.
        """
        text = table.entry(component if named is None else named).canonical()
        return table.entry(component, self.labels[table.axis].get(text))


Given = tuple[str, LabelledEntry, Any]
"""An entry of a study file: its key, itself, and its component."""


def called(table: Table[Any], given: Iterable[Given], where: str) -> Mapping[str, str]:
    """The labels on one axis, by the canonical text of the entry.

    Raises:
        UserError: two entries have the same label, one has two, or a label is a component's name.
    """
    first: dict[str, tuple[str, str]] = {}
    found: dict[str, str] = {}
    for key, entry, component in given:
        if entry.label is None:
            continue
        text, at = table.entry(component).canonical(), f"{where}: {key}.label = '{entry.label}'"
        if entry.label in table or entry.label == "none":
            raise UserError(f"{at} is the name of one of the {table.axis}; choose another label")
        before, same = first.setdefault(entry.label, (key, text))
        if same != text:
            raise UserError(f"{at} is also the label of {before}; give each entry a label of its own")
        if found.setdefault(text, entry.label) != entry.label:
            raise UserError(
                f"{at} is a second label of the entry '{found[text]}', which is the same; remove one of them"
            )
    return found


def keyed(axis: str, entries: Sequence[LabelledEntry], components: Sequence[Any]) -> list[Given]:
    """The entries of a list with their keys."""
    keys = [f"{axis}[{i}]" for i in range(len(entries))]
    return list(zip(keys, entries, components, strict=True))
