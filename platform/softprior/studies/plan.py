"""The grid of a study as trial specs, with every name resolved and every default written out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

from softprior.assets.models import KnownModel, known_model, tokenizer_here
from softprior.errors import UserError
from softprior.inputs.base import SpecT
from softprior.inputs.components import Table
from softprior.inputs.entry_texts import names as names_of
from softprior.inputs.labels import counted
from softprior.inputs.specs import ModelSpec, PlacementSpec, ResourcesSpec, StudySpec, TrialSpec
from softprior.methods import METHODS, Method
from softprior.priors import PRIORS, Outline, Prior, assignment
from softprior.prompt import Shape, Stack
from softprior.regularisers import REGULARISERS, Regulariser
from softprior.studies.called import Called
from softprior.studies.components import Components
from softprior.studies.pairing import can_carry, can_start, carry_notes
from softprior.studies.parts import Parts, check, located, repeated, resolve
from softprior.studies.probing import probe_notes
from softprior.studies.table import columns
from softprior.tasks import TASKS, Task
from softprior.tasks.notes import data_notes
from softprior.tasks.prepare import look
from softprior.training.corrections import model_facts
from softprior.training.identity import files_fingerprint
from softprior.training.opening import check_opening
from softprior.training.reordered import reordered_of
from softprior.training.twins import twins_of


class Plan(NamedTuple):
    """What a study will run.

    Attributes:
        study: the file, as read.
        trials: baselines first, repeated trials last; no two have one id.
        notes: settings that have no effect and unrequested additions, one sentence each.
        parts: what the file names.
        components: what its trials name.
        model: what is known of the model.
    """

    study: StudySpec
    trials: tuple[TrialSpec, ...]
    notes: tuple[str, ...]
    parts: Parts
    components: Components
    model: KnownModel

    @property
    def spec(self) -> dict[str, object]:
        """The file, every default written out."""
        return self.study.model_dump(mode="json")


class Start(NamedTuple):
    """A prior with what it is trained with, and the fingerprint of the files that both read."""

    prior: Prior
    regularisers: list[Regulariser]
    files: str | None


def plan_study(study: StudySpec, where: str = "study") -> Plan:
    """Resolves priors, methods and tasks, and lays out the grid.

    The no-prompt baseline of every task is always there. Methods without a trained prompt collapse
    the axes of priors, regularisers, rates and seeds.

    Args:
        where: the file, for error messages.

    Raises:
        UserError: a name is unknown, a parameter is wrong, or a setting refers to nothing.
    """
    parts = resolve(study, where)
    located(f"{where}: tasks", partial(columns, parts.tasks, parts.also))
    notes = _axis_notes(parts) + repeated(parts, study.evaluation.probes, study.rates, study.seeds)
    model = located(f"{where}: model", partial(known_model, study.model))
    facts = located(f"{where}: model", partial(model_facts, study.model, model.fingerprint))
    check(parts, model.shape, where)
    here = partial(tokenizer_here, study.model)
    own, also = [("tasks", "methods", task) for task in parts.tasks], "evaluation.also"
    for axis, against, task in (*own, *((also, also, task) for task in parts.also)):
        located(f"{where}: {axis}", partial(task.check_tokenizer, here))
        if model.shape is not None:
            for method in parts.methods:
                asked = partial(check_opening, method, model.shape, task, study.model.id, here)
                located(f"{where}: {against}", asked)
    notes += [*model.notes, *_data_notes(parts, model.fingerprint)]
    starts = [
        Start(prior, several, located(f"{where}: priors[{i}]", partial(files_fingerprint, prior, several)))
        for i, prior in enumerate(parts.priors)
        for several in parts.regularisers
    ]
    notes += _start_notes(parts, model, where)
    notes += _fit_notes(parts, model)
    notes += _carry_notes(parts, model.shape, where)
    notes += _idle_notes(parts, model.shape)
    stack = None if model.shape is None else model.shape.stack
    asked_kernels = partial(kernel_notes, study.model, study.placement, study.resources, stack)
    notes += located(f"{where}: model", asked_kernels)
    notes += probe_notes(study.evaluation.probes, parts.methods, model.shape, where)
    trials: dict[str, TrialSpec] = {}
    components = Components({}, {}, {})
    for named in sorted(parts.methods, key=lambda m: m.trained):
        for task in parts.tasks:
            method = named.of_task(task.instruction)
            able = [
                start
                for start in starts
                if can_start(assignment(start.prior), method, model.shape)
                and can_carry(assignment(start.prior), method, start.regularisers, model.shape)
            ]
            cell = Cell(method, named, task, able, facts.corrections(method, task))
            components |= cell.components(parts.also)
            for trial in _trials(study, parts, cell, model.fingerprint):
                trials.setdefault(trial.id, trial)
    if any(method.trained for method in parts.methods) and all(t.training is None for t in trials.values()):
        raise UserError(f"{where}: priors: none of them can start any of the methods; {'; '.join(notes)}")
    planned = list(trials.values())
    repeats = twins_of(planned, study.seeds[0]) if study.evaluation.twin else []
    repeats += reordered_of(planned, reordered_seeds(study.evaluation.reordered, study.seeds, where))
    planned += repeats
    return Plan(study, tuple(planned), tuple(notes), parts, components, model)


def reordered_seeds(count: int, every: Sequence[int], where: str) -> tuple[int, ...]:
    """The seeds that are trained once more with another order of the data.

    Raises:
        UserError: the study has fewer.
    """
    seeds = tuple(dict.fromkeys(every))
    if count > len(seeds):
        raise UserError(
            f"{where}: evaluation.reordered = {count} asks for the first {count} seeds, but the study has "
            f"{len(seeds)}; lower it to {len(seeds)}, or add seeds"
        )
    return seeds[:count]


class Cell(NamedTuple):
    """A method on a task, what can start it, and the corrections that concern its trials.

    Attributes:
        named: the method as the study names it, without what follows from the task.
    """

    method: Method
    named: Method
    task: Task
    starts: list[Start]
    corrections: tuple[str, ...]

    def components(self, also: Sequence[Task]) -> Components:
        """Those of its trials, which are measured on other tasks too."""
        return Components(
            {TASKS.entry(task).canonical(): task for task in (self.task, *also)},
            {METHODS.entry(self.method).canonical(): self.method},
            {PRIORS.entry(start.prior).canonical(): assignment(start.prior) for start in self.starts},
        )


def _axis_notes(parts: Parts) -> list[str]:
    """What the study adds unasked, and which of its settings have no effect."""
    notes = []
    if len(parts.methods) > parts.named:
        notes.append("the no-prompt baseline of every task is added")
    if not any(method.trained for method in parts.methods):
        notes.append("no method has a trained prompt, so priors, rates and seeds have no effect")
    return notes


def _data_notes(parts: Parts, fingerprint: str) -> list[str]:
    """What is known of the tasks' data: malformed rows, and fewer examples than asked for."""
    named = _named(parts.called, TASKS, parts.read)
    return [note for name, task in named.items() for note in data_notes(name, task, look(task, fingerprint))]


def _start_notes(parts: Parts, model: KnownModel, where: str) -> list[str]:
    """Which priors cannot start which methods; those that can are checked at every place.

    Raises:
        UserError: a prior or regulariser is not available at a place.
    """
    notes, shape = [], model.shape
    priors = [assignment(prior) for prior in parts.priors]
    for method in (m for m in parts.methods if m.trained):
        for outline in () if shape is None else _outlines(method, shape, model.fingerprint):
            for i, prior in enumerate(priors):
                if can_start(prior, method, shape):
                    there = prior.at(outline.place)
                    located(f"{where}: priors[{i}]", partial(there.check_outline, outline))
            for i, several in enumerate(parts.regularisers):
                for regulariser in several:
                    located(f"{where}: regularisers[{i}]", partial(regulariser.check_outline, outline))
        left = [
            PRIORS.name(named)
            for named, prior in zip(parts.priors, priors, strict=True)
            if not can_start(prior, method, shape)
        ]
        if left:
            what = f"the prior {', '.join(dict.fromkeys(left))}"
            notes.append(f"{what} cannot start the method {METHODS.name(method)}; left out there")
    return notes


def _fit_notes(parts: Parts, model: KnownModel) -> list[str]:
    """What is known of the fits to come: the first of each prior, and how many others are alike."""
    shape = model.shape
    if shape is None:
        return []
    notes = []
    for i, prior in enumerate(map(assignment, parts.priors)):
        methods = [m for m in parts.methods if m.trained and can_start(prior, m, shape)]
        outlines = [outline for method in methods for outline in _outlines(method, shape, model.fingerprint)]
        told = [note for outline in outlines for note in prior.at(outline.place).outline_notes(outline)]
        others = len(set(told)) - 1
        alike = f"; {counted(others, 'other fit')} alike" if others > 0 else ""
        notes += [f"priors[{i}]: {note}{alike}" for note in told[:1]]
    return notes


def _carry_notes(parts: Parts, shape: Shape | None, where: str) -> list[str]:
    """Which pairs of prior and method do not support which regularisers."""
    trained = _named(parts.called, METHODS, [method for method in parts.methods if method.trained])
    priors = {name: assignment(prior) for name, prior in _named(parts.called, PRIORS, parts.priors).items()}
    notes = []
    for i, several in enumerate(parts.regularisers):
        terms = _named(parts.called, REGULARISERS, several)
        carried = partial(carry_notes, priors, trained, terms, shape)
        notes += [f"regularisers[{i}]: {note}" for note in located(f"{where}: regularisers[{i}]", carried)]
    return notes


def _idle_notes(parts: Parts, shape: Shape | None) -> list[str]:
    """Kinds and blocks that priors name but no method has."""
    notes = []
    priors = [assignment(prior) for prior in parts.priors]
    kinds = frozenset(kind for method in parts.methods if method.trained for kind in method.kinds)
    for i, prior in enumerate(priors):
        idle_kinds = sorted(prior.kinds.keys() - kinds)
        if idle_kinds and kinds:
            notes.append(f"priors[{i}] names {idle_kinds[0]}s, which no method has; it has no effect")
    if shape is None:
        return notes
    places = {place.block for method in parts.methods for place in method.places(shape.blocks, shape.stack)}
    for i, prior in enumerate(priors):
        idle = sorted(prior.blocks.keys() - places)
        if idle:
            notes.append(f"priors[{i}] names block {idle[0]}, where no method has vectors; it has no effect")
    return notes


def kernel_notes(
    model: ModelSpec, placement: PlacementSpec, resources: ResourcesSpec, stack: Stack | None
) -> list[str]:
    """Kernels for GPUs that the model cannot have where it runs.

    Raises:
        UserError: its weights are on several ranks and shall be compiled.
    """
    if model.kernels == "compiled" and placement.ranks > 1:
        raise UserError(
            f"kernels = 'compiled' with placement.ranks = {placement.ranks}: weights gathered from other "
            "ranks during a pass cannot be compiled; write kernels: auto"
        )
    if model.kernels == "auto":
        return []
    gpus = placement.gpus if placement.hosts == "shared" else resources.gpus
    asked = f"model.kernels = '{model.kernels}' has no effect"
    if model.device == "cpu" or (model.device == "auto" and not gpus):
        return [f"{asked} on CPUs"]
    return [f"{asked} on an encoder-decoder"] if stack == "encoder" else []


def _named(called: Called, table: Table[SpecT], components: Sequence[SpecT]) -> dict[str, SpecT]:
    """Components by label, with the parameters that tell those of one name apart."""
    entries = [called.entry(table, component) for component in components]
    labels = names_of(entries)
    return {labels[e.canonical()]: component for e, component in zip(entries, components, strict=True)}


def _outlines(method: Method, shape: Shape, fingerprint: str) -> Iterator[Outline]:
    """Every place of a method, as priors may see it before the model is loaded."""
    places = method.places(shape.blocks, shape.stack)
    for place in places:
        sizes = (method.count(), fingerprint, shape.width(place), shape.vocabulary)
        yield Outline(place, places, *sizes)


def _trials(study: StudySpec, parts: Parts, cell: Cell, fingerprint: str) -> list[TrialSpec]:
    called = parts.called
    task, data = called.entry(TASKS, cell.task), cell.task.fingerprint()
    where = TASKS.paths(cell.task, "task")
    entries = {entry.canonical(): entry for entry in map(TASKS.entry, parts.also)}
    evaluation = study.evaluation.model_copy(
        update={"also": tuple(entries.values()), "twin": False, "reordered": 0}
    )
    code = {*TASKS.origins(cell.task), *METHODS.origins(cell.method)}

    common = {
        "model": study.model.id,
        "model_fingerprint": fingerprint,
        "corrections": cell.corrections,
        "dtype": study.model.dtype,
        "method": called.entry(METHODS, cell.method, cell.named),
        "task": task,
        "data_fingerprint": data,
        "paths": where,
        "code": tuple(sorted(code)),
        "evaluation": evaluation,
    }
    if not cell.method.trained:
        untrained = dict.fromkeys(("prior", "rate", "seed", "training"))
        return [TrialSpec.model_validate({**common, **untrained})]
    training = study.training.for_task(TASKS.name(cell.task), task.name)
    trials = []
    for start in cell.starts:
        terms = sorted(start.regularisers, key=lambda term: REGULARISERS.entry(term).canonical())
        found = [REGULARISERS.paths(term, f"regularisers.{i}") for i, term in enumerate(terms)]
        others = {*PRIORS.origins(start.prior), *chain(*map(REGULARISERS.origins, terms))}
        started = {
            **common,
            "code": tuple(sorted(code | others)),
            "prior": called.entry(PRIORS, start.prior),
            "prior_fingerprint": start.files,
            "regularisers": tuple(called.entry(REGULARISERS, term) for term in terms),
            "paths": (*where, *PRIORS.paths(start.prior, "prior"), *chain(*found)),
            "pairing": study.pairing,
            "training": training,
        }
        trials += [
            TrialSpec.model_validate({**started, "rate": rate, "seed": seed})
            for rate in study.rates
            for seed in study.seeds
        ]
    return trials
