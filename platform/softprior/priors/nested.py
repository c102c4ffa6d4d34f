"""Priors made of priors: their components by name, checked when the study is read."""

from __future__ import annotations

from collections.abc import Mapping

from softprior.errors import UserError, nearest
from softprior.priors.base import Prior
from softprior.specs import Entry
from softprior.validation import validate, validate_inner


def component(table: Mapping[str, type[Prior]], entry: Entry) -> Prior:
    """The prior of a table that an entry names.

    Raises:
        UserError: there is no such prior, or a parameter of it is wrong.
    """
    if entry.name not in table:
        raise UserError(_unknown(table, entry))
    return validate(table[entry.name], entry.params, entry.name)


def checked(table: Mapping[str, type[Prior]], entry: Entry) -> Entry:
    """The entry with every default written out.

    Raises:
        ValueError: the same as `component`, in the form that validation of a spec reports.
    """
    if entry.name not in table:
        raise ValueError(_unknown(table, entry))
    found = validate_inner(table[entry.name], entry.params, entry.name)
    return Entry(name=entry.name, params=found.model_dump(mode="json"))


def _unknown(table: Mapping[str, type[Prior]], entry: Entry) -> str:
    return f"'{entry.name}' cannot stand here; {nearest(entry.name, list(table))}"
