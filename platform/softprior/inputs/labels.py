"""Words for people: labels of trials by what tells them apart, and numbers of things."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple

from softprior.inputs.entries import Entry
from softprior.inputs.entry_texts import names
from softprior.inputs.specs import TrialSpec

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


def axes(trials: Sequence[TrialSpec], *, beside_defaults: bool = False) -> dict[str, Axes]:
    """The axes of every trial, by trial id.

    Entries have the labels of the study file. Without, they have their component's name, with the parameters
    in which those of one name differ from each other and from the defaults: `isotropic(scale=0.1)`.

    Args:
        beside_defaults: also show the parameters in which methods, priors and regularisers of one name are
            alike but differ from the defaults.
    """

    def named(entries: Iterable[Entry]) -> dict[str, str]:
        own = list(entries)
        # A label says what it says; beside an entry at its defaults the others show theirs anyway.
        others = {one.name for one in own if beside_defaults and one.shown.name == one.name}
        others -= {one.name for one in own if not one.shown.params}
        return names([*own, *(Entry(name=name) for name in sorted(others))])

    tasks = names(trial.task for trial in trials)
    # Within a task: the text of a written instruction follows from the task, which the label names.
    methods = {task: named(t.method for t in trials if t.task.canonical() == task) for task in tasks}
    priors = named(trial.prior for trial in trials if trial.prior is not None)
    terms = named(term for trial in trials for term in trial.regularisers)
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


def labels(trials: Sequence[TrialSpec], *, beside_defaults: bool = False) -> dict[str, str]:
    """Task, method, prior, regularisers, rate and seed of every trial in a line, by trial id.

    `arithmetic · soft · isotropic(scale=0.1) · 0.005 · seed 0`, see `axes`; that of a repeated trial ends in
    `twin` or `reordered`.

    Args:
        beside_defaults: see `axes`.
    """
    return {t: in_line(own) for t, own in axes(trials, beside_defaults=beside_defaults).items()}


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


def counted(number: float, what: str) -> str:
    """A number of things: `1 CPU`, `0.5 GPUs`, `1,200 trials`."""
    return f"{number:,.10g} {what}{'s' * (number != 1)}"


def by_number(number: float, one: str, several: str) -> str:
    """The word that goes with a number of things, as `is` or `are`."""
    return one if number == 1 else several
