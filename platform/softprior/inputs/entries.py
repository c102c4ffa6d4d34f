"""Entries of a study file: a component by name, with parameters, and perhaps a label for people.

Nothing here knows which priors, methods or tasks exist: the table that an entry belongs to turns it into a
component.
"""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from softprior.inputs.base import Spec


class Shown(NamedTuple):
    """What people see of an entry.

    Attributes:
        name: its label, or else the name of its component.
        params: those that are not at their defaults.
    """

    name: str
    params: dict[str, object]


LABEL = "label"
"""Key of an entry's label, beside the name of its component."""


class Entry(Spec):
    """A component by name, with parameters: `isotropic` or `{isotropic: {scale: 0.02}}` in YAML.

    Entries with the same name and parameters are equal, whatever is shown of them.
    """

    name: str
    params: dict[str, object] = {}
    _shown: Shown | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: object) -> object:
        return value if isinstance(value, cls) else _entry(value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entry):
            return NotImplemented
        return (self.name, self.params) == (other.name, other.params)

    @property
    def shown(self) -> Shown:
        """What people see; the defaults of an entry that no table has made are unknown, apart from null."""
        if self._shown is not None:
            return self._shown
        return Shown(self.name, {key: value for key, value in self.params.items() if value is not None})

    def shown_as(self, shown: Shown) -> Entry:
        """The same entry under another name, or with other parameters, for people."""
        found = self.model_copy()
        found._shown = shown
        return found


def _entry(value: object) -> object:
    """An entry as it is in JSON."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Entry):
        return {"name": value.name, "params": value.params}
    if isinstance(value, dict) and "name" in value:
        return value
    if isinstance(value, dict) and len(value) == 1:
        name, params = next(iter(value.items()))
        if params is None or isinstance(params, dict):
            return {"name": name, "params": params or {}}
    if isinstance(value, dict) and LABEL in value:
        raise ValueError("cannot have a label, unlike the entries of an axis; remove the label")
    raise ValueError("must be a name, or one name with its parameters, as {NAME: {PARAMETER: VALUE}}")


def _checked_label(label: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,19}", label):
        raise ValueError(
            "must be 1 to 20 letters, digits, '_', '-', '.' or '+', the first a letter or digit; it stands "
            "in the rows of tables"
        )
    return label


class LabelledEntry(Entry):
    """An entry of an axis, which may have a label: `{isotropic: {scale: 0.02}, label: narrow}` in YAML.

    A label is only for people and is not part of what trials are.
    """

    label: Annotated[str, AfterValidator(_checked_label)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: object) -> object:
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict) or len(value) == 1 or LABEL not in value:
            return _entry(value)
        found = _entry({key: inner for key, inner in value.items() if key != LABEL})
        return {**found, LABEL: value[LABEL]} if isinstance(found, dict) else found

    @model_serializer(mode="wrap")
    def _to_json(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        found: dict[str, object] = handler(self)
        return {key: value for key, value in found.items() if key != LABEL or value is not None}


_NONE: tuple[object, ...] = ("none", {"none": None}, {"none": {}})


def _several(value: object) -> object:
    if value in _NONE:
        return ()
    if isinstance(value, str | dict | Entry):
        return (value,)
    if not isinstance(value, list | tuple):
        raise ValueError(
            "must be a name, one name with its parameters, or a list of these; for no regulariser write none"
        )
    if any(entry in _NONE for entry in value):
        raise ValueError(
            "none means no regulariser and cannot be in a list with others; leave it out, or write none "
            "instead of the list"
        )
    return tuple(value)


Regularisers = Annotated[tuple[LabelledEntry, ...], BeforeValidator(_several)]
"""One value of the axis `regularisers`: `none`, one term, or a list of terms."""
