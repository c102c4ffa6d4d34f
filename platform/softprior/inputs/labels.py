"""Words for people: labels of trials by what tells them apart, and numbers of things."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import NamedTuple

from softprior.inputs.entries import Entry, Shown
from softprior.inputs.specs import TrialSpec

LONG = 24
"""Characters above which a text is abbreviated, if it can then still be told from the others."""

NO_TERMS = "none"
"""The regularisers of a trial without any, in tables."""

SHORTEST = 6
"""Fewest characters of an id that are shown."""


class Axes(NamedTuple):
    """The axes of a trial in words; None for those that it does not have.

    A repetition of another trial has the same axes but for `repeat`, which says of what kind it is.
    """

    task: str
    method: str
    prior: str | None = None
    regularisers: tuple[str, ...] = ()
    rate: str | None = None
    seed: str | None = None
    repeat: str | None = None


def axes(trials: Sequence[TrialSpec]) -> dict[str, Axes]:
    """The axes of every trial, by trial id.

    Entries have the labels of the study file. Without, they have their component's name, with the parameters
    in which those of one name differ from each other and from the defaults: `isotropic(scale=0.1)`.
    """
    tasks = names(trial.task for trial in trials)
    # Within a task: the text of a written instruction follows from the task, which the label names.
    methods = {task: names(t.method for t in trials if t.task.canonical() == task) for task in tasks}
    priors = names(trial.prior for trial in trials if trial.prior is not None)
    terms = names(term for trial in trials for term in trial.regularisers)
    found = {}
    for trial in trials:
        task = trial.task.canonical()
        there = Axes(tasks[task], methods[task][trial.method.canonical()])
        if trial.prior is not None and trial.rate is not None:
            own = tuple(terms[term.canonical()] for term in trial.regularisers)
            prior = priors[trial.prior.canonical()]
            there = Axes(*there[:2], prior, own, trial.rate.label, str(trial.seed), trial.repeat)
        found[trial.id] = there
    return found


def reshown(trial: TrialSpec, show: Callable[[str, Entry], Entry]) -> TrialSpec:
    """A trial whose entries are shown in another way.

    Args:
        show: gives an entry as it is to be shown, from its field (`task`, `also`, `method`, `prior` or
            `regularisers`) and itself.
    """
    also = tuple(show("also", entry) for entry in trial.evaluation.also)
    return trial.model_copy(
        update={
            "evaluation": trial.evaluation.model_copy(update={"also": also}),
            "task": show("task", trial.task),
            "method": show("method", trial.method),
            "prior": None if trial.prior is None else show("prior", trial.prior),
            "regularisers": tuple(show("regularisers", term) for term in trial.regularisers),
        }
    )


def labels(trials: Sequence[TrialSpec]) -> dict[str, str]:
    """Task, method, prior, regularisers, rate and seed of every trial in a line, by trial id.

    `arithmetic · soft · isotropic(scale=0.1) · 0.005 · seed 0`, see `axes`; that of a repeated trial ends in
    `twin` or `reordered`.
    """
    return {trial: in_line(own) for trial, own in axes(trials).items()}


def in_line(own: Axes, without: Container[str] = ()) -> str:
    """A trial's axes in a line, except for some."""
    parts = {**own._asdict(), "regularisers": " · ".join(own.regularisers)}
    if own.seed is not None:
        parts["seed"] = f"seed {own.seed}"
    return " · ".join(text for axis, text in parts.items() if text and axis not in without)


def common(trials: Iterable[Axes]) -> dict[str, str]:
    """The axes, in words, that are the same in all trials that have them, and need to be said only once.

    The method is not among them: it says what a trial is.
    """
    found = {}
    several = list(trials)
    for axis in ("task", "prior", "rate", "seed"):
        values = {getattr(own, axis) for own in several} - {None}
        if len(values) == 1:
            found[axis] = str(*values)
    terms = {own.regularisers for own in several if own.prior is not None}
    if len(terms) == 1:
        found["regularisers"] = " + ".join(*terms) or NO_TERMS
    return found


def common_in_words(trials: Iterable[Axes], axes: Sequence[str]) -> str:
    """What `common` finds on some axes, in words: `rate 0.01 relative, seed 0`; empty if there is nothing."""
    found = common(trials)
    return ", ".join(f"{a} {found[a]}" for a in axes if a in found and found[a] != NO_TERMS)


def names(entries: Iterable[Entry]) -> dict[str, str]:
    """A name for every entry, by its canonical text: what is shown of it.

    Entries with the same name are told apart by the parameters in which they differ. Different entries have
    different names.
    """
    kinds: dict[str, dict[str, Entry]] = {}
    for text, entry in {entry.canonical(): entry for entry in entries}.items():
        kinds.setdefault(entry.shown.name, {})[text] = entry
    return {text: name for alike in kinds.values() for text, name in _named_apart(alike).items()}


def _named_apart(alike: dict[str, Entry]) -> dict[str, str]:
    """Names of entries that share one; by all parameters where those that are shown are the same."""
    found = _apart({text: entry.shown for text, entry in alike.items()})
    if len(set(found.values())) < len(found):  # a label of two studies, say
        whole = {text: Shown(entry.shown.name, entry.params) for text, entry in alike.items()}
        found = _apart(whole)
    return found


def short_ids(ids: Sequence[str]) -> dict[str, str]:
    """The first characters of every id, as many as tell them all apart."""
    length = SHORTEST
    while len({i[:length] for i in ids}) < len(set(ids)):
        length += 1
    return {i: i[:length] for i in ids}


def numbered(words: Sequence[str]) -> list[str]:
    """The same words, the second of one kind called `word-2`, the third `word-3`."""
    seen: Counter[str] = Counter()
    found = []
    for word in words:
        seen[word] += 1
        found.append(word if seen[word] == 1 else f"{word}-{seen[word]}")
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
        if set(value) == {"name", "params"}:
            return inner[Entry.model_validate(value).canonical()]
        return f"{{{', '.join(f'{key}: {_text(item, inner)}' for key, item in value.items())}}}"
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    return json.dumps(value)


def _entries(value: object) -> Iterator[Entry]:
    """The entries inside a value: components of a mixture, priors of places."""
    if isinstance(value, dict) and set(value) == {"name", "params"}:
        yield Entry.model_validate(value)
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _entries(item)


def counted(number: float, what: str) -> str:
    """A number of things: `1 CPU`, `0.5 GPUs`, `1,200 trials`."""
    return f"{number:,.10g} {what}{'s' * (number != 1)}"


def by_number(number: float, one: str, several: str) -> str:
    """The word that goes with a number of things, as `is` or `are`."""
    return one if number == 1 else several
