"""Sentences on a study's settings: what has no effect, what is added unasked, and what cannot go together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

from softprior.assets.models import KnownModel
from softprior.assets.tokens import Tokenizer
from softprior.errors import UserError
from softprior.inputs.base import SpecT
from softprior.inputs.components import Table
from softprior.inputs.entry_texts import names as names_of
from softprior.inputs.entry_texts import short_names
from softprior.inputs.labels import counted
from softprior.inputs.specs import EvaluationSpec, ModelSpec, PlacementSpec, ResourcesSpec, TrainingSpec
from softprior.methods import METHODS, Method
from softprior.priors import PRIORS, Outline, assignment
from softprior.prompt import Shape, Stack
from softprior.regularisers import REGULARISERS
from softprior.studies.called import Called
from softprior.studies.pairing import can_start, carry_notes, limit_notes
from softprior.studies.parts import Parts, located
from softprior.tasks import TASKS
from softprior.tasks.base import Look
from softprior.tasks.notes import batch_notes, data_notes, few_notes
from softprior.tasks.prepare import look


def axis_notes(parts: Parts) -> list[str]:
    """What the study adds unasked, and which of its settings have no effect."""
    notes = []
    if len(parts.methods) > parts.named:
        notes.append("the no-prompt baseline of every task is added")
    if not any(method.trained for method in parts.methods):
        notes.append("no method has a trained prompt, so priors, rates and seeds have no effect")
    return notes


def training_notes(training: TrainingSpec, parts: Parts) -> list[str]:
    """Which of the training's numbers are larger than a task's number of steps."""
    notes = []
    for task in parts.tasks if any(method.trained for method in parts.methods) else ():
        name = parts.called.entry(TASKS, task).name
        own = training.for_task(TASKS.name(task), name)
        more = f"is more than the {counted(own.steps, 'step')} of {name}"
        if own.curve > own.steps:
            notes.append(f"training.curve = {own.curve:,} {more}: each step has its validation loss")
        if own.warmup > own.steps:
            notes.append(f"training.warmup = {own.warmup:,} {more}: the full rate is never reached")
    return list(dict.fromkeys(notes))


def looks_at(parts: Parts, fingerprint: str) -> dict[str, Look]:
    """What is known of the data of all tasks, by the canonical text of their entries.

    Args:
        fingerprint: of the model.
    """
    return {TASKS.entry(task).canonical(): look(task, fingerprint) for task in parts.read}


def samples(
    parts: Parts, looks: Mapping[str, Look], here: Callable[[], Tokenizer | None]
) -> dict[str, float]:
    """Mean number of tokens of some examples of a user's own files that are not tokenised yet.

    Args:
        looks: at the data, see `looks_at`.
        here: reads the tokenizer if it is on this machine.
    """
    found: dict[str, float] = {}
    with suppress(UserError):  # the first trial says what is wrong with the tokenizer
        for task in parts.read:
            text = TASKS.entry(task).canonical()
            size = None if looks[text].lengths else task.sampled(here)
            found |= {} if size is None else {text: size}
    return found


def task_notes(
    training: TrainingSpec, evaluation: EvaluationSpec, parts: Parts, looks: Mapping[str, Look]
) -> list[str]:
    """What is known of the tasks' data: malformed rows, and fewer examples than asked for or in a batch.

    Args:
        looks: at the data, see `looks_at`.
    """
    notes, few, trained = [], [], any(method.trained for method in parts.methods)
    entries = [parts.called.entry(TASKS, task) for task in parts.read]
    named = short_names(entries)
    for name, task in {named[e.canonical()]: t for e, t in zip(entries, parts.read, strict=True)}.items():
        found = looks[TASKS.entry(task).canonical()]
        notes += data_notes(name, task, found, tested=task not in parts.tasks)
        if trained and task in parts.tasks:
            own = training.for_task(TASKS.name(task), parts.called.entry(TASKS, task).name)
            notes += batch_notes(name, task, found.notes, own.batch)
        few += few_notes(name, task, evaluation, found.notes)
    return [*notes, *few]


def prior_notes(parts: Parts, model: KnownModel, where: str) -> list[str]:
    """What priors and regularisers cannot do, what their fits will be like, and which of them are idle.

    Raises:
        UserError: a prior or regulariser is not available at a place.
    """
    return [
        *_start_notes(parts, model, where),
        *_fit_notes(parts, model),
        *_carry_notes(parts, model.shape, where),
        *_idle_notes(parts, model.shape),
    ]


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
        padded = "changes numbers by rounding alone on CPUs, where it takes more time and memory"
        return [f"model.kernels = 'padded' {padded}" if model.kernels == "padded" else f"{asked} on CPUs"]
    return [f"{asked} on an encoder-decoder"] if stack == "encoder" else []


def frozen_notes(parts: Parts, model: ModelSpec, placement: PlacementSpec, shape: Shape | None) -> list[str]:
    """Which methods gain from what `model.frozen_cache` keeps, as far as the model's sizes are known."""
    if model.frozen_cache is None:
        return []
    idle = "model.frozen_cache has no effect"
    if placement.ranks > 1:
        return [f"{idle} with placement.ranks = {placement.ranks}"]
    if shape is None:
        return []
    if shape.stack == "encoder":
        return [f"{idle} on an encoder-decoder"]
    gains, others = [], []
    for name, method in _named(parts.called, METHODS, [m for m in parts.methods if m.trained]).items():
        places = method.places(shape.blocks)
        if all(at.block > 0 and at.placement == "front" for at in places):
            gains.append(
                f"losses of {name} start at block {min(at.block for at in places)} of {shape.blocks}"
            )
        else:
            others.append(name)
    why = "whose vectors begin at block 0 or behind the first token"
    if not gains:
        return [f"{idle}: the vectors of every method begin at block 0 or behind the first token"]
    rest = f"; no effect on {', '.join(others)}, {why}" if others else ""
    return [f"model.frozen_cache: {', '.join(gains)}{rest}"]


def _start_notes(parts: Parts, model: KnownModel, where: str) -> list[str]:
    """Which priors cannot start which methods; those that can are checked at every place.

    Raises:
        UserError: a prior or regulariser is not available at a place, or no prior can start any method.
    """
    shape = model.shape
    priors = [assignment(prior) for prior in parts.priors]
    trained = [method for method in parts.methods if method.trained]
    for method in trained:
        for outline in () if shape is None else _outlines(method, shape, model.fingerprint):
            for i, prior in enumerate(priors):
                if can_start(prior, method, shape):
                    there = prior.at(outline.place)
                    located(f"{where}: priors[{i}]", partial(there.check_outline, outline))
            for i, several in enumerate(parts.regularisers):
                for regulariser in several:
                    located(f"{where}: regularisers[{i}]", partial(regulariser.check_outline, outline))
    return located(f"{where}: priors", partial(limit_notes, parts.priors, trained, shape))


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
