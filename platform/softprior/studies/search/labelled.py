"""Labels of entries in a search: proposals and their storage do without, people see them."""

from __future__ import annotations

from typing import Any

from softprior.inputs.entries import LABEL

LABELLED = ("priors", "methods", "tasks", "regularisers")
"""Axes whose entries may have labels."""


def label_of(entry: object) -> object | None:
    """The label of an entry as read from a study file; None without."""
    return entry[LABEL] if isinstance(entry, dict) and len(entry) > 1 and LABEL in entry else None


def unlabelled(entry: Any) -> Any:
    """An entry, or a list of entries, as it would read without labels."""
    if isinstance(entry, list):
        return [unlabelled(one) for one in entry]
    if label_of(entry) is None:
        return entry
    rest = {key: value for key, value in entry.items() if key != LABEL}
    bare = len(rest) == 1 and next(iter(rest.values())) is None
    return next(iter(rest)) if bare else rest


def relabelled(entry: Any, written: Any) -> Any:
    """The opposite: the labels of an entry as it was written put back on it."""
    if isinstance(entry, list) and isinstance(written, list):
        return [relabelled(one, other) for one, other in zip(entry, written, strict=True)]
    label = label_of(written)
    if label is None:
        return entry
    return {**(entry if isinstance(entry, dict) else {entry: None}), LABEL: label}


def without_labels(data: dict[str, Any]) -> dict[str, Any]:
    """The data of a study file without labels."""
    return {key: unlabelled(value) if key in LABELLED else value for key, value in data.items()}
