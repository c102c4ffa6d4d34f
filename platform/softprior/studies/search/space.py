"""The search space of a study file: a parameter for every range, and for every list with a choice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from softprior.errors import UserError
from softprior.inputs.labels import numbered
from softprior.inputs.validation import shown
from softprior.methods import METHODS
from softprior.studies.search.labelled import LABELLED, label_of, relabelled, unlabelled, without_labels
from softprior.studies.search.spec import KEY, Range, SearchStudy, is_range, ranges

AXES = ("priors", "methods", "regularisers", "rates")
"""Lists from which a proposal takes one entry; tasks and seeds stay a grid that every proposal runs."""

Suggest = Callable[[str, BaseDistribution], CategoricalChoiceType]


class Parameter(NamedTuple):
    """One dimension of the space.

    Attributes:
        name: keys in the file, list entries by name: `priors.isotropic.scale`.
        condition: the axis and choice with which it exists; None if it always does.
    """

    name: str
    distribution: BaseDistribution
    condition: tuple[str, str] | None


class Proposer(Protocol):
    """Something that draws values, as Optuna's `Trial` does."""

    def suggest_categorical(
        self, name: str, choices: Sequence[CategoricalChoiceType]
    ) -> CategoricalChoiceType: ...
    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...


class Space:
    """The space of a study file.

    Raises:
        UserError: there is nothing to search over.
    """

    def __init__(self, study: SearchStudy, where: str) -> None:
        self._written = study.data
        self._data = without_labels(study.data)
        self._where = where
        # What needs no prompt runs once beside the search, as in a grid.
        methods = self._data.get("methods")
        self._beside = [m for m in methods if not _trained(m)] if isinstance(methods, list) else []
        self.parameters = tuple(self._parameters())
        if not self.parameters:
            raise UserError(
                f"{where}: there is nothing to search over; write a range in place of a value, such as "
                "scale: {search: {low: 0.01, high: 1, log: true}}, or several priors, methods or rates"
            )

    def point(self, trial: Proposer) -> dict[str, object]:
        """A study file's data with one value for every range, drawn by `trial`."""
        return self._filled(lambda name, distribution: _draw(trial, name, distribution))

    def corners(self) -> list[dict[str, object]]:
        """Study files with every list whole and the ranges at their low ends, high ends, and every choice."""
        found = ranges(self._data, self._where)
        count = max([2, *(len(r.choices) for r in found.values() if r.choices is not None)])
        corners = range(count if found else 1)
        data = {k: _ends(v) if k in LABELLED else v for k, v in self._written.items()}
        return [{k: _cornered(v, i) for k, v in data.items()} for i in corners]

    def shown_parameters(self) -> list[Parameter]:
        """The parameters as people see them: with the labels of entries."""
        found = []
        for name, distribution, condition in self.parameters:
            if isinstance(distribution, CategoricalDistribution) and name in AXES:
                choices = [str(self.shown(name, choice)[1]) for choice in distribution.choices]
                distribution = CategoricalDistribution(choices)
            where = None if condition is None else (condition[0], str(self.shown(*condition)[1]))
            found.append(Parameter(self.shown(name)[0], distribution, where))
        return found

    def shown(self, name: str, value: object = None) -> tuple[str, object]:
        """A parameter's name and value as people see them."""
        axis, _, rest = name.partition(".")
        for entry, label in self._called(axis).items():
            if not rest and value == entry:
                return name, label
            if rest == entry or rest.startswith(f"{entry}."):
                return f"{axis}.{label}{rest.removeprefix(entry)}", value
        return name, value

    def _called(self, axis: str) -> dict[str, str]:
        """What people see of an axis's entries that have labels, by their names here."""
        if axis not in AXES or axis not in LABELLED:
            return {}
        entries = self._entries(axis)
        pairs = zip(_labels(axis, entries), self._entries(axis, written=True), entries, strict=True)
        return {name: _label(axis, written) for name, written, entry in pairs if written != entry}

    def _parameters(self) -> Iterator[Parameter]:
        for axis in AXES:
            entries = self._entries(axis)
            labels = _labels(axis, entries)
            if len(entries) > 1:
                yield Parameter(axis, CategoricalDistribution(labels), None)
            for entry, label in zip(entries, labels, strict=True):
                condition = (axis, label) if len(entries) > 1 else None
                for name, distribution in _ranges(_inside(entry), _path(axis, entries, label)):
                    yield Parameter(name, distribution, condition)
        for key, value in self._data.items():
            if key not in AXES:
                for name, distribution in _ranges(value, key):
                    yield Parameter(name, distribution, None)

    def _filled(self, suggest: Suggest) -> dict[str, object]:
        data: dict[str, object] = {}
        for key, value in self._data.items():
            if key not in AXES or not isinstance(value, list):
                data[key] = _fill(value, key, suggest)
                continue
            entries = self._entries(key)
            labels = _labels(key, entries)
            label = labels[0]
            if len(entries) > 1:
                label = str(suggest(key, CategoricalDistribution(labels)))
            entry = entries[labels.index(label)]
            inner = _fill(_inside(entry), _path(key, entries, label), suggest)
            written = self._entries(key, written=True)[labels.index(label)]
            data[key] = [relabelled(_around(entry, inner), written)]
        return (
            {**data, "tasks": relabelled(data["tasks"], self._written["tasks"])} if "tasks" in data else data
        )

    def _entries(self, axis: str, written: bool = False) -> list[object]:
        """The entries that a proposal chooses from; as they were `written`, with labels, or without."""
        value = self._data.get(axis)
        if not isinstance(value, list):
            return []
        beside = self._beside if axis == "methods" else []
        pairs = zip(value, self._written[axis], strict=True)
        return [own if written else entry for entry, own in pairs if entry not in beside]


def _trained(entry: object) -> bool:
    name = next(iter(entry), None) if isinstance(entry, dict) else entry
    return not isinstance(name, str) or name not in METHODS or METHODS[name].trained


def _labels(axis: str, entries: list[object]) -> list[str]:
    """Names of the entries of an axis, all different."""
    return numbered([_label(axis, entry) for entry in entries])


def _label(axis: str, entry: object) -> str:
    label = label_of(entry)
    if label is not None:
        return str(label)
    if is_range(entry):
        return "range"
    if isinstance(entry, list):
        return "+".join(_label(axis, one) for one in entry)
    if isinstance(entry, dict) and len(entry) == 1:
        name, value = next(iter(entry.items()))
        return f"relative-{value:g}" if axis == "rates" and isinstance(value, int | float) else str(name)
    return f"{entry:g}" if isinstance(entry, float) else str(entry)


def _path(axis: str, entries: list[object], label: str) -> str:
    return axis if len(entries) == 1 and is_range(entries[0]) else f"{axis}.{label}"


def _inside(entry: object) -> object:
    """What an entry's label leaves out: its parameters, without its name."""
    if isinstance(entry, dict) and len(entry) == 1 and not is_range(entry):
        return next(iter(entry.values()))
    return entry


def _around(entry: object, inner: object) -> object:
    """The opposite of `_inside`."""
    if isinstance(entry, dict) and len(entry) == 1 and not is_range(entry):
        return {next(iter(entry)): inner}
    return inner


def _ranges(value: object, path: str) -> Iterator[tuple[str, BaseDistribution]]:
    if is_range(value):
        yield path, _distribution(Range.model_validate(value[KEY]))
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _ranges(inner, f"{path}.{key}")


def _fill(value: object, path: str, suggest: Suggest) -> object:
    if is_range(value):
        found = Range.model_validate(value[KEY])
        drawn = suggest(path, _distribution(found))
        return drawn if found.choices is None else found.choices[_choices(found).index(drawn)]
    if isinstance(value, dict):
        return {key: _fill(inner, f"{path}.{key}", suggest) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, f"{path}.{i}", suggest) for i, inner in enumerate(value)]
    return value


def _ends(entry: object) -> object:
    """Entries as written, those with ranges without labels: at an end one may be the same as another."""
    if isinstance(entry, list):
        return [_ends(one) for one in entry]
    return unlabelled(entry) if any(True for _ in _ranges(entry, "")) else entry


def _cornered(value: object, corner: int) -> object:
    """The value with every range at one of its ends: 0 is low and the first choice."""
    if is_range(value):
        found = Range.model_validate(value[KEY])
        if found.choices is not None:
            return found.choices[min(corner, len(found.choices) - 1)]
        end = found.high if corner else found.low
        assert end is not None
        return round(end) if found.int else end
    if isinstance(value, dict):
        return {key: _cornered(inner, corner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cornered(inner, corner) for inner in value]
    return value


def _choices(found: Range) -> list[CategoricalChoiceType]:
    """Choices as Optuna stores them: lists and mappings as text."""
    assert found.choices is not None
    return [c if c is None or isinstance(c, str | int | float) else json.dumps(c) for c in found.choices]


def _distribution(found: Range) -> BaseDistribution:
    if found.choices is not None:
        return CategoricalDistribution(_choices(found))
    assert found.low is not None
    assert found.high is not None
    if found.int:
        return IntDistribution(
            round(found.low), round(found.high), log=found.log, step=round(found.step or 1)
        )
    return FloatDistribution(found.low, found.high, log=found.log, step=found.step)


def _draw(trial: Proposer, name: str, distribution: BaseDistribution) -> CategoricalChoiceType:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(
        name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
    )


def in_words(distribution: BaseDistribution) -> str:
    """`0.0001 to 0.1 (log)`, or the choices."""
    if isinstance(distribution, CategoricalDistribution):
        return (
            shown(list(distribution.choices))
            if len(distribution.choices) < 6
            else (f"{len(distribution.choices)} choices")
        )
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    step = "" if distribution.step in (None, 1) else f", step {distribution.step:g}"
    return f"{distribution.low:g} to {distribution.high:g}{' (log)' if distribution.log else ''}{step}"
