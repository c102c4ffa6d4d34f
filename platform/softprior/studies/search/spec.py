"""What a user writes about a search: the block `search:` of a study file, and ranges in place of values."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import BeforeValidator, Field, field_validator, model_validator

from softprior.errors import UserError, suggestion
from softprior.inputs.base import Address, Spec
from softprior.inputs.specs import CommonSpec, StudySpec
from softprior.inputs.study_files import read_data
from softprior.inputs.validation import Key, path_of, validate

KEY = "search"
"""Top-level key of a search's settings, and the one key of a mapping that is a range."""

FIXED = tuple(CommonSpec.model_fields)
"""Keys that take no ranges."""


class Range(Spec):
    """A range in place of a value: `{search: {low: 1, high: 2, log: true}}` or `{search: {choices: [a, b]}}`.

    Attributes:
        low, high: both ends, included.
        log: values are spread evenly over the logarithm.
        step: `step: s` restricts the values to `low + k·s`; null allows every value.
        choices: unordered values of any type; in place of all other keys.
        int: whole numbers only.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: Annotated[float, Field(gt=0)] | None = None
    choices: Annotated[tuple[object, ...], Field(min_length=2)] | None = None
    int: bool = False

    @model_validator(mode="after")
    def _one_form(self) -> Range:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.step or self.int:
                raise ValueError("must have choices alone, or low and high with log, step and int")
            return self
        if self.low is None or self.high is None:
            raise ValueError("must have low and high, or choices")
        if self.low >= self.high:
            raise ValueError("must have low below high")
        if self.log and self.low <= 0:
            raise ValueError("must have low above zero when log is true")
        if self.log and self.step is not None:
            raise ValueError("must have either log or step, not both")
        if self.step is not None and not math.isclose(
            (self.high - self.low) / self.step, max(1, round((self.high - self.low) / self.step))
        ):
            raise ValueError("must have high a whole number of steps above low")
        if self.int and any(v is not None and v != round(v) for v in (self.low, self.high, self.step)):
            raise ValueError("must have whole numbers as low, high and step when int is true")
        return self


class Objective(Spec):
    """What a search minimises, measured on the validation split.

    Attributes:
        name: `validation_loss` after the last step; `steps_to`, the steps until the validation loss is
            at most `loss`; `distance_moved` of the vectors from their initial sample, mean over places.
        loss: of `steps_to`.
    """

    name: Literal["validation_loss", "steps_to", "distance_moved"]
    loss: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: object) -> object:
        if isinstance(value, str) and value != "steps_to":
            return {"name": value}
        if isinstance(value, cls) or (isinstance(value, dict) and "name" in value):
            return value
        if isinstance(value, dict) and set(value) == {"steps_to"} and isinstance(value["steps_to"], dict):
            inner = value["steps_to"]
            if set(inner) == {"loss"} and isinstance(inner["loss"], int | float):
                return {"name": "steps_to", "loss": inner["loss"]}
        raise ValueError("must be validation_loss, distance_moved or {steps_to: {loss: NUMBER}}")

    @property
    def label(self) -> str:
        return self.name.replace("_", " ") + ("" if self.loss is None else f" {self.loss:g}")


def _several(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


class WarmStart(Spec):
    """Points of an earlier search that are tried first.

    Attributes:
        study: its results folder.
        points: number of points, the best first; points outside the new ranges are left out.
    """

    study: str
    points: Annotated[int, Field(ge=1)] = 10

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: object) -> object:
        return {"study": value} if isinstance(value, str) else value


class Asha(Spec):
    """Asynchronous successive halving (arXiv 1810.05934), its budget in optimizer steps.

    Attributes:
        grace: steps before a trial may be stopped, the first rung.
        reduction: keeps the best 1/`reduction` of the trials at each rung; the next rung is `reduction` times
            later.
    """

    grace: Annotated[int, Field(ge=1)]
    reduction: Annotated[float, Field(gt=1)] = 3.0


class EarlyStopping(Spec):
    """Which trials are stopped before their last step."""

    asha: Asha


class SearchSpec(Spec):
    """The block `search:` of a study file.

    Attributes:
        trials: points to propose; one that fails, or repeats another, counts.
        objective: one, or a list for the front of points that no other point beats in all objectives.
        sampler: of Optuna, by name.
        seed: of the sampler; it determines every proposal, with its number and the results reported so far.
        warm_start: an earlier search whose best points are tried first.
        early_stopping: null lets every trial run to its end.
        concurrent: number of proposals run at a time; with 1 a search is reproducible.
        storage: an Optuna database URL; null is a journal in the results folder.
    """

    trials: Annotated[int, Field(ge=1)]
    objective: Annotated[tuple[Objective, ...], BeforeValidator(_several), Field(min_length=1)] = (
        Objective(name="validation_loss"),
    )
    sampler: Literal["tpe", "random", "gp", "cmaes", "nsgaii"] = "tpe"
    seed: Annotated[int, Field(ge=0)] = 0
    warm_start: WarmStart | None = None
    early_stopping: EarlyStopping | None = None
    concurrent: Annotated[int, Field(ge=1)] = 1
    storage: Annotated[Address | None, Field(repr=False)] = None

    @field_validator("storage")
    @classmethod
    def _database(cls, storage: str | None) -> str | None:
        if storage is None or storage.startswith(("sqlite:////", "postgresql", "mysql")):
            return storage
        raise ValueError("must be a database, such as sqlite:////absolute/path.db or postgresql://HOST/NAME")

    @model_validator(mode="after")
    def _agree(self) -> SearchSpec:
        names = [objective.label for objective in self.objective]
        if len(set(names)) < len(names):
            raise ValueError("must name each objective only once")
        if self.sampler == "cmaes" and len(names) > 1:
            raise ValueError("must have one objective with the sampler cmaes; nsgaii and tpe take several")
        if self.early_stopping is not None and names != ["validation loss"]:
            raise ValueError(
                "must have validation_loss as its only objective with early_stopping, which compares that"
            )
        return self


class SearchStudy(CommonSpec):
    """A study file with a `search:` block.

    Attributes:
        search: the block.
        data: the rest, as read, with its ranges.
    """

    search: SearchSpec
    data: dict[str, Any]


def load(path: Path, overrides: tuple[str, ...] = ()) -> StudySpec | SearchStudy:
    """Reads a study file that may be a search.

    Raises:
        UserError: something is wrong with it; ranges without `search:` are.
    """
    data = read_data(StudySpec, path, overrides)
    where = str(path)
    known = [*StudySpec.model_fields, KEY]
    unknown = next((key for key in data if key not in known), None)
    if unknown is not None:
        raise UserError(f"{where}: unknown key '{unknown}'; {suggestion(str(unknown), known)}")
    found = ranges(data, where, skip=(KEY,))
    if KEY not in data:
        if found:
            raise UserError(
                f"{where}: {next(iter(found))} is a range, but the study has no search; add one, such as "
                "search: {trials: 50}, or write a value"
            )
        return validate(StudySpec, data, where)
    search = validate(SearchSpec, data.pop(KEY), where, KEY)
    for keys in found:
        first = re.split(r"[.\[]", keys)[0]
        if first in FIXED:
            raise UserError(f"{where}: {keys} is a range, but {first} cannot be one; write a value")
        if first in ("seeds", "pairing"):
            raise UserError(
                f"{where}: {keys} is a range, but the best of many draws is only luck; write the {first} "
                "that every proposal runs with"
            )
    common = validate(CommonSpec, {key: data[key] for key in FIXED if key in data}, where)
    return SearchStudy(**dict(common), search=search, data=data)


def is_range(value: object) -> TypeGuard[dict[str, object]]:
    """Whether a value of a study file stands for a range."""
    return isinstance(value, dict) and set(value) == {KEY}


def ranges(data: object, where: str, skip: tuple[str, ...] = ()) -> dict[str, Range]:
    """All ranges in a study file's data, by their path in it.

    Raises:
        UserError: one of them is not a valid range.
    """
    found: dict[str, Range] = {}

    def walk(value: object, keys: list[Key]) -> None:
        if is_range(value) and keys:
            found[path_of(keys)] = validate(Range, value[KEY], where, f"{path_of(keys)}.{KEY}")
        elif isinstance(value, dict | list):
            inside = value.items() if isinstance(value, dict) else enumerate(value)
            for key, inner in inside:
                if keys or key not in skip:
                    walk(inner, [*keys, key])

    walk(data, [])
    return found
