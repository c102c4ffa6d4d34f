"""The grid of a study as trial specs, with every name resolved and every default written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from softprior.assets.models import Shape, model_fingerprint, model_notes, model_shape
from softprior.errors import UserError, nearest
from softprior.labels import counted
from softprior.labels import names as names_of
from softprior.methods import METHODS, Method
from softprior.methods.instruction import Instruction
from softprior.priors import PRIORS, Outline, Prior
from softprior.regularisers import REGULARISERS, Regulariser
from softprior.specs import Entry, Spec, SpecT, StudySpec, TrialSpec
from softprior.studies.pairing import can_carry, can_start, carry_notes
from softprior.tasks import TASKS, Task
from softprior.tasks.prepare import data_notes, look
from softprior.training.corrections import model_facts
from softprior.training.identity import files_fingerprint
from softprior.validation import validate

T = TypeVar("T")


class Plan(NamedTuple):
    """What a study will run.

    Attributes:
        study: the file, as read.
        trials: baselines first, without repetition.
        notes: settings that have no effect and additions nobody asked for, one sentence each.
    """

    study: StudySpec
    trials: tuple[TrialSpec, ...]
    notes: tuple[str, ...]

    @property
    def spec(self) -> dict[str, Any]:
        """The file, every default written out."""
        return self.study.model_dump(mode="json")


def plan_study(study: StudySpec, where: str = "study") -> Plan:
    """Resolves priors, methods and tasks, and lays out the grid.

    The no-prompt baseline of every task is always there. Methods without a trained prompt collapse
    the axes of priors, regularisers, rates and seeds.

    Args:
        where: the file, for error messages.

    Raises:
        UserError: a name is unknown, a parameter is wrong, or a setting refers to nothing.
    """
    parts = _resolved(study, where)
    notes = _axis_notes(study, parts)
    fingerprint = _located(f"{where}: model", lambda: model_fingerprint(study.model))
    shape = _located(f"{where}: model", lambda: model_shape(study.model))
    facts = _located(f"{where}: model", lambda: model_facts(study.model, fingerprint))
    _check_parts(parts, shape, where)
    notes += [*model_notes(study.model), *_data_notes(parts.tasks, fingerprint)]
    starts = [
        Start(prior, several, _located(f"{where}: priors[{i}]", partial(files_fingerprint, prior, several)))
        for i, prior in enumerate(parts.priors)
        for several in parts.regularisers
    ]
    notes += _start_notes(study, parts, shape, fingerprint, where)
    notes += _fit_notes(parts, shape, fingerprint)
    notes += _carry_notes(parts, shape, where)
    notes += _idle_notes(parts, shape)
    trials: dict[str, TrialSpec] = {}
    for method in sorted(parts.methods, key=lambda m: m.trained):
        for task in parts.tasks:
            able = [
                start
                for start in starts
                if can_start(start.prior, method, shape)
                and can_carry(start.prior, method, start.regularisers, shape)
            ]
            corrections = facts.corrections(method, task)
            for trial in _trials(study, method, task, able, fingerprint, corrections):
                trials.setdefault(trial.id, trial)
    if any(method.trained for method in parts.methods) and all(t.training is None for t in trials.values()):
        raise UserError(f"{where}: priors: none of them can start any of the methods; {'; '.join(notes)}")
    return Plan(study, tuple(trials.values()), tuple(notes))


class Parts(NamedTuple):
    """The components that a study names, parameters checked.

    Attributes:
        methods: with the baseline `none` in front if the study does not name it.
        regularisers: of every entry, one or several together.
        named: how many methods the study names itself.
    """

    methods: list[Method]
    priors: list[Prior]
    tasks: list[Task]
    regularisers: list[list[Regulariser]]
    named: int


class Start(NamedTuple):
    """A prior with what it is trained with, and the fingerprint of the files that both read."""

    prior: Prior
    regularisers: list[Regulariser]
    files: str | None


def _resolved(study: StudySpec, where: str) -> Parts:
    """The components by their names.

    Raises:
        UserError: a name is unknown, or a parameter is wrong.
    """
    priors = [resolve(PRIORS, e, where, f"priors[{i}]") for i, e in enumerate(study.priors)]
    methods = [resolve(METHODS, e, where, f"methods[{i}]") for i, e in enumerate(study.methods)]
    tasks = [resolve(TASKS, e, where, f"tasks[{i}]") for i, e in enumerate(study.tasks)]
    regularisers = [
        [
            resolve(REGULARISERS, e, where, f"regularisers[{i}]" + (f"[{j}]" if len(several) > 1 else ""))
            for j, e in enumerate(several)
        ]
        for i, several in enumerate(study.regularisers)
    ]
    names = [entry.name for entry in study.tasks]
    for name in study.training.by_task:
        if name not in names:
            raise UserError(
                f"{where}: training.by_task.{name} is no task of this study; {nearest(name, names)}"
            )
    if not any(entry.name == "none" for entry in study.methods):
        methods.insert(0, METHODS["none"]())
    return Parts(methods, priors, tasks, regularisers, len(study.methods))


def _axis_notes(study: StudySpec, parts: Parts) -> list[str]:
    """What the axes say twice, to no effect, or not at all."""
    notes = []
    if len(parts.methods) > parts.named:
        notes.append("the no-prompt baseline of every task is added")
    if not any(method.trained for method in parts.methods):
        notes.append("no method has a trained prompt, so priors, rates and seeds have no effect")
    axes: dict[str, Sequence[object]] = {
        "priors": [prior.canonical() for prior in _entries(PRIORS, parts.priors)],
        "methods": [method.canonical() for method in _entries(METHODS, parts.methods[-parts.named :])],
        "tasks": [task.canonical() for task in _entries(TASKS, parts.tasks)],
        "regularisers": [
            sorted(term.canonical() for term in _entries(REGULARISERS, several))
            for several in parts.regularisers
        ],
        "rates": study.rates,
        "seeds": study.seeds,
    }
    for axis, values in axes.items():
        notes += [
            f"{axis}[{i}] is the same as {axis}[{values.index(value)}] and counts once; remove it"
            for i, value in enumerate(values)
            if values.index(value) < i
        ]
    return notes


def _entries(table: Mapping[str, type[SpecT]], components: Sequence[SpecT]) -> list[Entry]:
    """Components as entries, every parameter written out: equal however they were named."""
    return [entry_of(table, component) for component in components]


def _check_parts(parts: Parts, shape: Shape | None, where: str) -> None:
    """Each component on its own, against the model's sizes and the files there are.

    Raises:
        UserError: a method does not fit the model, or a file is missing or damaged.
    """
    if shape is not None:
        for i, method in enumerate(parts.methods[-parts.named :]):
            _located(f"{where}: methods[{i}]", partial(method.places, shape.blocks, shape.stack))
            _located(f"{where}: methods[{i}]", partial(_require_room, method, parts.tasks, shape))
    for i, task in enumerate(parts.tasks):
        _located(f"{where}: tasks[{i}]", task.fingerprint)
        _located(f"{where}: tasks[{i}]", task.check_data)
    for i, several in enumerate(parts.regularisers):
        for regulariser in several:
            _located(f"{where}: regularisers[{i}]", regulariser.contents)


def _data_notes(tasks: Sequence[Task], fingerprint: str) -> list[str]:
    """What is known of the tasks' data: malformed rows, and fewer examples than asked for."""
    named = _named(TASKS, tasks)
    return [note for name, task in named.items() for note in data_notes(name, task, look(task, fingerprint))]


def _start_notes(
    study: StudySpec, parts: Parts, shape: Shape | None, fingerprint: str, where: str
) -> list[str]:
    """Which priors cannot start which methods; those that can are checked at every place.

    Raises:
        UserError: a prior or regulariser cannot be had at a place.
    """
    notes = []
    for method in (m for m in parts.methods if m.trained):
        for outline in () if shape is None else _outlines(method, shape, fingerprint):
            for i, prior in enumerate(parts.priors):
                if can_start(prior, method, shape):
                    _located(f"{where}: priors[{i}]", partial(prior.check_outline, outline))
            for i, several in enumerate(parts.regularisers):
                for regulariser in several:
                    _located(f"{where}: regularisers[{i}]", partial(regulariser.check_outline, outline))
        pairs = zip(study.priors, parts.priors, strict=True)
        names = [entry.name for entry, prior in pairs if not can_start(prior, method, shape)]
        if names:
            what = f"the prior {', '.join(dict.fromkeys(names))}"
            notes.append(f"{what} cannot start the method {entry_of(METHODS, method).name}; left out there")
    return notes


def _fit_notes(parts: Parts, shape: Shape | None, fingerprint: str) -> list[str]:
    """What is known of the fits to come: of each prior the first thing, and how many are alike."""
    if shape is None:
        return []
    notes = []
    for i, prior in enumerate(parts.priors):
        methods = [m for m in parts.methods if m.trained and can_start(prior, m, shape)]
        outlines = [outline for method in methods for outline in _outlines(method, shape, fingerprint)]
        told = [
            note
            for outline in outlines
            for part in prior.at(outline.place).components()
            for note in part.outline_notes(outline)
        ]
        others = len(set(told)) - 1
        alike = f"; {counted(others, 'other fit')} alike" if others > 0 else ""
        notes += [f"priors[{i}]: {note}{alike}" for note in told[:1]]
    return notes


def _carry_notes(parts: Parts, shape: Shape | None, where: str) -> list[str]:
    """Which pairs of prior and method cannot carry which regularisers."""
    trained = _named(METHODS, [method for method in parts.methods if method.trained])
    notes = []
    for i, several in enumerate(parts.regularisers):
        terms = _named(REGULARISERS, several)
        carried = partial(carry_notes, _named(PRIORS, parts.priors), trained, terms, shape)
        notes += [f"regularisers[{i}]: {note}" for note in _located(f"{where}: regularisers[{i}]", carried)]
    return notes


def _idle_notes(parts: Parts, shape: Shape | None) -> list[str]:
    """Kinds and blocks that priors name and no method has."""
    notes = []
    kinds = frozenset(kind for method in parts.methods if method.trained for kind in method.kinds)
    for i, prior in enumerate(parts.priors):
        idle_kinds = sorted(prior.named_kinds() - kinds)
        if idle_kinds and kinds:
            notes.append(f"priors[{i}] names {idle_kinds[0]}s, which no method has; it has no effect")
    if shape is None:
        return notes
    places = {place.block for method in parts.methods for place in method.places(shape.blocks, shape.stack)}
    for i, prior in enumerate(parts.priors):
        idle = sorted(prior.named_blocks() - places)
        if idle:
            notes.append(f"priors[{i}] names block {idle[0]}, where no method has vectors; it has no effect")
    return notes


def _named(table: Mapping[str, type[SpecT]], components: Sequence[SpecT]) -> dict[str, SpecT]:
    """Components by what to call them, with the parameters that tell those of one name apart."""
    entries = [entry_of(table, component) for component in components]
    called = names_of(entries)
    return {called[e.canonical()]: component for e, component in zip(entries, components, strict=True)}


def _require_room(method: Method, tasks: Sequence[Task], shape: Shape) -> None:
    """The prompt and the longest text of every task have to fit the model's positions, as in the trial.

    Raises:
        UserError: they do not.
    """
    if shape.positions is None:
        return
    name, count = entry_of(METHODS, method).name, method.count()
    if count >= shape.positions:
        raise UserError(
            f"{name}.tokens = {count} leaves no room for a text in the {shape.positions:,} positions of the "
            "model; use fewer"
        )
    for task in tasks:
        longest, written = task.longest() or 1, task.max_new_tokens if task.generates else 0
        if count + longest + written > shape.positions:
            text = "any text" if task.longest() is None else f"a text of up to {longest}"
            raise UserError(
                f"{name} with {counted(count, 'prompt vector')}, {text} and {counted(written, 'new token')} "
                f"of the task {entry_of(TASKS, task).name} takes {count + longest + written:,} positions, "
                f"and the model has {shape.positions:,}; lower the length of the task or the prompt's tokens"
            )


def _outlines(method: Method, shape: Shape, fingerprint: str) -> Iterator[Outline]:
    """Every place of a method, as priors may see it before there is a model."""
    places = method.places(shape.blocks, shape.stack)
    for place in places:
        sizes = (method.count(), fingerprint, shape.width(place), shape.vocabulary)
        yield Outline(place, places, *sizes)


def _trials(
    study: StudySpec,
    method: Method,
    task: Task,
    starts: Sequence[Start],
    fingerprint: str,
    corrections: tuple[str, ...],
) -> list[TrialSpec]:
    task_entry, data = entry_of(TASKS, task), task.fingerprint()
    if isinstance(method, Instruction):
        method = Instruction(written=method.text(task.instruction))

    def trial(**axes: object) -> TrialSpec:
        return TrialSpec.model_validate(
            {
                "model": study.model.id,
                "model_fingerprint": fingerprint,
                "corrections": corrections,
                "dtype": study.model.dtype,
                "method": entry_of(METHODS, method),
                "task": task_entry,
                "data_fingerprint": data,
                "evaluation": study.evaluation,
                **axes,
            }
        )

    if not method.trained:
        return [trial(prior=None, rate=None, seed=None, training=None)]
    training = study.training.for_task(task_entry.name)
    return [
        trial(
            prior=entry_of(PRIORS, start.prior),
            prior_fingerprint=start.files,
            regularisers=tuple(
                sorted((entry_of(REGULARISERS, r) for r in start.regularisers), key=Entry.canonical)
            ),
            rate=rate,
            seed=seed,
            pairing=study.pairing,
            training=training,
        )
        for start in starts
        for rate in study.rates
        for seed in study.seeds
    ]


def _located(where: str, find: Callable[[], T]) -> T:
    """What is found, or the same error with the file and key in front."""
    try:
        return find()
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def resolve(table: Mapping[str, type[SpecT]], entry: Entry, where: str, at: str) -> SpecT:
    """The component an entry names, with its parameters checked.

    Args:
        where: the file, for error messages.
        at: the keys that lead to the entry in it.

    Raises:
        UserError: there is no such name, or a parameter is wrong.
    """
    if entry.name not in table:
        raise UserError(f"{where}: {at} = '{entry.name}' does not exist; {nearest(entry.name, list(table))}")
    return validate(table[entry.name], entry.params, where, f"{at}.{entry.name}")


def entry_of(table: Mapping[str, type[SpecT]], component: Spec) -> Entry:
    """The entry that names a component, every parameter written out."""
    name = next(name for name, kind in table.items() if kind is type(component))
    return Entry(name=name, params=component.model_dump(mode="json"))
