"""An entry as text: its name among others, with everything for people elsewhere, and one text per parameter.

Each has its purpose: `names` tells the entries of a study apart in labels, tables and figures; `in_full` is
for readers without the study, as of a model card; `leaves` is for tables with a column per parameter, as
MLflow's. What identifies an entry is its canonical text (`Spec.canonical`). A search names its parameters in
`search/space.py`, where entries still have ranges in them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, TypeGuard

from softprior.inputs.entries import Entry, Shown

LONG = 24
"""Characters above which a text is abbreviated, if it can then still be told from the others."""

NAMED = re.compile(r"[\w.-]{1,40}")
"""A key of a table that can be part of a parameter's name."""


def names(entries: Iterable[Entry]) -> dict[str, str]:
    """A name for every entry, by its canonical text: what is shown of it.

    Entries with the same name are told apart by the parameters in which they differ. Different entries have
    different names.
    """
    kinds: dict[str, dict[str, Entry]] = {}
    for text, entry in {entry.canonical(): entry for entry in entries}.items():
        kinds.setdefault(entry.shown.name, {})[text] = entry
    return {text: name for alike in kinds.values() for text, name in _named_apart(alike).items()}


def short_names(entries: Iterable[Entry]) -> dict[str, str]:
    """The same with only as many parameters as tell entries of one name apart, for notes.

    Of several sets of equally many parameters it is the one whose names are shortest together.
    """
    kinds: dict[str, dict[str, Entry]] = {}
    for text, entry in {entry.canonical(): entry for entry in entries}.items():
        kinds.setdefault(entry.shown.name, {})[text] = entry
    return {text: name for alike in kinds.values() for text, name in _shortest(alike).items()}


def _shortest(alike: dict[str, Entry]) -> dict[str, str]:
    """Names of entries that share one, with at most two of their parameters if that is enough."""
    shown = {text: entry.shown for text, entry in alike.items()}
    parameters = dict.fromkeys(name for own in shown.values() for name in own.params)
    for count in range(3):
        found = [
            _apart(
                {t: Shown(s.name, {p: s.params[p] for p in some if p in s.params}) for t, s in shown.items()}
            )
            for some in combinations(parameters, count)
        ]
        distinct = [named for named in found if len(set(named.values())) == len(named)]
        if distinct:
            return min(distinct, key=lambda named: len("".join(named.values())))
    return _named_apart(alike)


def in_full(entry: Entry, at: str, paths: Sequence[str] | None) -> str:
    """A component with its parameters, but for paths on the author's machine.

    Args:
        at: the keys that lead to it in the trial.
        paths: of parameters that say where a file is; None of a trial from before they were known.
    """

    def says_where(key: str) -> bool:
        return paths is None or any(path == key or path.startswith(f"{key}.") for path in paths)

    inner = ", ".join(
        f"{key}: {_public(value) if says_where(f'{at}.params.{key}') else value}"
        for key, value in entry.params.items()
    )
    return f"{entry.name} ({inner})" if inner else entry.name


def leaves(name: str, value: object) -> Iterator[tuple[str, object]]:
    """A value by its name, and what is in tables, and in lists of tables, by names of their own.

    A component inside of another is named as an axis is: by its name, and its parameters behind a dot.
    """
    inside: Mapping[Any, object] = {}
    if _is_entry(value):
        yield name, value["name"]
        value = value["params"]
        if not value:
            return
    if isinstance(value, Mapping):
        inside = value
    elif isinstance(value, list | tuple) and any(isinstance(part, Mapping) for part in value):
        inside = dict(enumerate(value))
    if not inside or not all(NAMED.fullmatch(str(key)) for key in inside):
        yield name, value
        return
    for key, part in inside.items():
        yield from leaves(f"{name}.{key}", part)


def _named_apart(alike: dict[str, Entry]) -> dict[str, str]:
    """Names of entries that share one; by all parameters where those that are shown are the same."""
    found = _apart({text: entry.shown for text, entry in alike.items()})
    if len(set(found.values())) < len(found):  # a label of two studies, say
        whole = {text: Shown(entry.shown.name, entry.params) for text, entry in alike.items()}
        found = _apart(whole)
    return found


def _apart(alike: dict[str, Shown]) -> dict[str, str]:
    """Names with the parameters in which they differ."""
    shown: dict[str, list[str]] = {text: [] for text in alike}
    params = [own.params for own in alike.values()]
    for parameter in dict.fromkeys(name for own in params for name in own):
        having = [text for text, own in zip(alike, params, strict=True) if parameter in own]
        values = [own[parameter] for own in params if parameter in own]
        if len(having) == len(alike) and all(value == values[0] for value in values):
            continue
        for text, value in zip(having, _texts(values), strict=True):
            shown[text].append(f"{parameter}={value}")
    return {
        text: own.name + (f"({', '.join(shown[text])})" if shown[text] else "") for text, own in alike.items()
    }


def _texts(values: list[object]) -> list[str]:
    """One parameter's values in words; long texts without their common beginning."""
    inner = names(entry for value in values for entry in _entries(value))
    full = [_text(value, inner) for value in values]
    long = [text for text, value in zip(full, values, strict=True) if isinstance(value, str)]
    if all(len(text) <= LONG for text in long):
        return full
    start = end = 0
    if len(set(long)) > 1:
        start = _shared(long)
        end = _shared([text[start:][::-1] for text in long])
    parts = {text: _cut(text, start, len(text) - end) for text in long}
    short = {text: part if len(part) <= LONG else f"{part[:LONG]}…" for text, part in parts.items()}
    chosen = short if len(set(short.values())) == len(short) else parts
    return [chosen.get(text, text) for text in full]


def _shared(texts: list[str]) -> int:
    """Characters that all texts begin with, up to the last whole word."""
    return len(re.sub(r"\w*$", "", os.path.commonprefix(texts)))  # noqa: RUF071  not of paths alone


def _cut(text: str, start: int, end: int) -> str:
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _text(value: object, inner: dict[str, str]) -> str:
    """A value of JSON in words, with entries in it by `inner`'s names."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)[1:-1]  # no line breaks
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(item, inner) for item in value)}]"
    if isinstance(value, dict):
        if _is_entry(value):
            return inner[Entry.model_validate(value).canonical()]
        return f"{{{', '.join(f'{key}: {_text(item, inner)}' for key, item in value.items())}}}"
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return json.dumps(value)


def _entries(value: object) -> Iterator[Entry]:
    """The entries inside a value: components of a mixture, priors of places."""
    if _is_entry(value):
        yield Entry.model_validate(value)
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _entries(item)


def _public(value: object) -> object:
    """A value without paths: names of the catalogue and of the hub are not paths."""
    if isinstance(value, dict):
        return {key: _public(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_public(inner) for inner in value]
    if isinstance(value, str) and not value.startswith("hub:") and re.search(r"[/\\.]", value):
        return "a file"
    return value


def _is_entry(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a parameter is a component, as JSON."""
    return isinstance(value, Mapping) and set(value) == {"name", "params"}
