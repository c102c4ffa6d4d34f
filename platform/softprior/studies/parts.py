"""What a study file names: its components in order, each checked by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from softprior.errors import UserError, suggestion
from softprior.inputs.base import SpecT
from softprior.inputs.components import Table
from softprior.inputs.entries import Entry
from softprior.inputs.labels import counted, reshown
from softprior.inputs.specs import StudySpec, TrialSpec
from softprior.methods import METHODS, Method
from softprior.priors import PRIORS, Prior
from softprior.prompt import Shape
from softprior.regularisers import REGULARISERS, Regulariser
from softprior.studies.called import Called, called, keyed
from softprior.tasks import TASKS, Task
from softprior.tasks.prepare import is_prepared

T = TypeVar("T")


class Parts(NamedTuple):
    """The components that a study names, parameters checked.

    Attributes:
        methods: with the baseline `none` in front if the study does not name it.
        also: the other tasks that final prompts are measured on.
        regularisers: of every value of the axis, one or several together.
        named: number of methods that the study names itself.
        called: the labels that it gives.
    """

    methods: list[Method]
    priors: list[Prior]
    tasks: list[Task]
    also: list[Task]
    regularisers: list[list[Regulariser]]
    named: int
    called: Called

    @property
    def read(self) -> list[Task]:
        """All tasks whose texts are read."""
        return [*self.tasks, *self.also]


def resolve(study: StudySpec, where: str) -> Parts:
    """The components by their names.

    Raises:
        UserError: a name is unknown, a parameter is wrong, or labels cannot be told apart.
    """
    priors = PRIORS.components(study.priors, where, "priors")
    methods = METHODS.components(study.methods, where, "methods")
    tasks = TASKS.components(study.tasks, where, "tasks")
    also = TASKS.components(study.evaluation.also, where, "evaluation.also")
    regularisers = [
        REGULARISERS.components(several, where, f"regularisers[{i}]")
        if len(several) > 1
        else [REGULARISERS.component(entry, where, f"regularisers[{i}]") for entry in several]
        for i, several in enumerate(study.regularisers)
    ]
    names = list(dict.fromkeys(name for t in tasks for name in (TASKS.name(t), TASKS.entry(t).name)))
    for name in study.training.by_task:
        if name not in names:
            raise UserError(
                f"{where}: training.by_task.{name} is not a task of this study; {suggestion(name, names)}"
            )
    terms = [
        (f"regularisers[{i}]" + (f"[{j}]" if len(entries) > 1 else ""), entry, term)
        for i, (entries, several) in enumerate(zip(study.regularisers, regularisers, strict=True))
        for j, (entry, term) in enumerate(zip(entries, several, strict=True))
    ]
    labels = {
        "priors": called(PRIORS, keyed("priors", study.priors, priors), where),
        "methods": called(METHODS, keyed("methods", study.methods, methods), where),
        "tasks": called(TASKS, keyed("tasks", study.tasks, tasks), where),
        "regularisers": called(REGULARISERS, terms, where),
    }
    if not any(entry.name == "none" for entry in study.methods):
        methods.insert(0, METHODS["none"]())
    return Parts(methods, priors, tasks, also, regularisers, len(study.methods), Called(labels))


def shown(trial: TrialSpec, parts: Parts) -> TrialSpec:
    """A trial of these components, shown under the labels that their study gives them."""
    called = parts.called
    methods = [(method.of_task(task.instruction), method) for method in parts.methods for task in parts.tasks]
    known = {
        "task": [called.entry(TASKS, task) for task in parts.tasks],
        "method": [called.entry(METHODS, method, named) for method, named in methods],
        "prior": [called.entry(PRIORS, prior) for prior in parts.priors],
        "regularisers": [
            called.entry(REGULARISERS, term) for several in parts.regularisers for term in several
        ],
    }

    def show(field: str, entry: Entry) -> Entry:
        return next((found for found in known.get(field, ()) if found == entry), entry)

    return reshown(trial, show)


def repeated(
    parts: Parts, probes: Sequence[object], rates: Sequence[object], seeds: Sequence[object]
) -> list[str]:
    """A sentence for every value of an axis that the study gives twice."""
    axes: dict[str, Sequence[object]] = {
        "priors": _identities(PRIORS, parts.priors),
        "methods": _identities(METHODS, parts.methods[-parts.named :]),
        "tasks": _identities(TASKS, parts.tasks),
        "evaluation.also": _identities(TASKS, parts.also),
        "evaluation.probes": probes,
        "regularisers": [sorted(_identities(REGULARISERS, several)) for several in parts.regularisers],
        "rates": rates,
        "seeds": seeds,
    }
    tasks, also = axes["tasks"], axes["evaluation.also"]
    idle = [
        f"evaluation.also[{i}] is the task of every trial, which is tested on it anyway; remove it"
        for i, other in enumerate(also)
        if all(task == other for task in tasks)
    ]
    return idle + [
        f"{axis}[{i}] is the same as {axis}[{values.index(value)}] and counts once; remove it"
        for axis, values in axes.items()
        for i, value in enumerate(values)
        if values.index(value) < i
    ]


def check(parts: Parts, shape: Shape | None, fingerprint: str, where: str) -> None:
    """Each component on its own, against the model's sizes and the files there are.

    Args:
        fingerprint: the tokenizer's. Data that the cache has in its tokens are not checked again.

    Raises:
        UserError: a method does not fit the model, or a file is missing or damaged.
    """
    if shape is not None:
        for i, method in enumerate(parts.methods[-parts.named :]):
            located(f"{where}: methods[{i}]", partial(method.places, shape.blocks, shape.stack))
            located(f"{where}: methods[{i}]", partial(_require_room, method, parts.read, shape))
    for i, task in enumerate(parts.tasks):
        located(f"{where}: tasks[{i}]", task.fingerprint)
        if not is_prepared(task, fingerprint):
            located(f"{where}: tasks[{i}]", task.check_data)
    for i, task in enumerate(parts.also):
        located(f"{where}: evaluation.also[{i}]", task.fingerprint)
        if not is_prepared(task, fingerprint, ("test",)):
            located(f"{where}: evaluation.also[{i}]", task.check_test_data)
    for i, several in enumerate(parts.regularisers):
        for regulariser in several:
            located(f"{where}: regularisers[{i}]", regulariser.contents)


def located(where: str, find: Callable[[], T]) -> T:
    """Prefixes any error with the file and key."""
    try:
        return find()
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _identities(table: Table[SpecT], components: Sequence[SpecT]) -> list[str]:
    """Equal for equal components, however they were named."""
    return [table.entry(component).canonical() for component in components]


def _require_room(method: Method, tasks: Sequence[Task], shape: Shape) -> None:
    """The prompt and the longest text of every task have to fit the model's positions, as in the trial.

    Raises:
        UserError: they do not.
    """
    if shape.positions is None:
        return
    name, count = METHODS.name(method), method.count()
    if count >= shape.positions:
        raise UserError(
            f"{name}.tokens = {count} leaves no room for a text in the {shape.positions:,} positions of the "
            "model; use fewer"
        )
    for task in tasks:
        longest, written = task.longest() or 1, task.new_tokens
        if count + longest + written > shape.positions:
            text = "any text" if task.longest() is None else f"a text of up to {longest}"
            raise UserError(
                f"{name} with {counted(count, 'prompt vector')}, {text} and {counted(written, 'new token')} "
                f"of the task {TASKS.name(task)} takes {count + longest + written:,} positions, "
                f"but the model has {shape.positions:,}; lower the length of the task or the prompt's tokens"
            )
