"""What all values of a user's files are made of: frozen specs with checked fields, names and texts."""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer

from softprior.errors import hidden


class Spec(BaseModel):
    """A frozen value with checked fields; the base of everything in a study file."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        ser_json_inf_nan="constants",  # not null, which would give NaN and null the same identity
    )

    def canonical(self) -> str:
        """The JSON text that identifies the value: keys sorted, every default written out.

        Raises:
            ValueError: a parameter is not finite, so it has no form in JSON.
        """
        return self._canonical

    @cached_property
    def _canonical(self) -> str:
        """Plans of thousands of trials ask for it often."""
        return canonical_text(self.model_dump(mode="json"))

    def __copy__(self) -> Self:
        """A copy without what is cached, as `model_copy` gives other values to its fields."""
        found = super().__copy__()
        for name in found.__dict__.keys() - type(self).model_fields:
            del found.__dict__[name]
        return found


def parsed_json(text: str) -> object:
    """The value of a JSON text from a file that may be damaged.

    Raises:
        ValueError: it is not JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def canonical_text(value: object) -> str:
    """The one JSON text of a value: keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", name):
        raise ValueError(
            "must be 1 to 64 lower-case letters, digits, '_', '-' or '.', the first a letter or digit; "
            "it becomes a folder's name"
        )
    return name


Name = Annotated[str, AfterValidator(_checked_name)]

DATABASE, ARTIFACTS = "mlflow.db", "mlflow-artifacts"
"""MLflow's database and its folder, beside those of studies and activation runs."""


def _free(name: str) -> str:
    if name == ARTIFACTS or name.startswith(DATABASE):
        raise ValueError(
            f"must not be '{ARTIFACTS}' or begin with '{DATABASE}', as MLflow's own files beside it do; "
            "choose another name"
        )
    return name


FolderName = Annotated[Name, AfterValidator(_free)]
"""The name of a study or an activation run, whose folder stands beside MLflow's files."""


def _with_words(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty or blank; write a text")
    return text


Text = Annotated[str, AfterValidator(_with_words)]
"""A text that says something, kept as it is written."""

Address = Annotated[str, PlainSerializer(hidden, when_used="json")]
"""An address that may contain a password, which is hidden wherever the spec is written down."""

SpecT = TypeVar("SpecT", bound=Spec)


class SaysWhere:
    """Marks, in the type of a parameter, that its value says where a file is.

    Contents have fingerprints, so where they are does not belong to a trial's identity:
    `Annotated[str, SaysWhere()]`.
    """
