"""Other tasks under a trial's final prompt: what it forgets, and what it carries over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from softprior.assets import fingerprints
from softprior.assets.tokens import Tokenizer
from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.inputs.specs import TrialSpec
from softprior.methods import METHODS
from softprior.models.protocol import FrozenLM
from softprior.prompt import Prompt, Shape
from softprior.results.examples import ExampleRow
from softprior.results.provenance import SOURCES
from softprior.results.records import Record, TaskScore
from softprior.tasks import TASKS
from softprior.tasks.prepare import prepare
from softprior.training.evaluation import Evaluator
from softprior.training.events import Phase, Report
from softprior.training.failure import TrialFailedError
from softprior.training.opening import require_input, require_opening
from softprior.training.room import require_room


class OtherScore(NamedTuple):
    """A prompt on another task: the record's part, and the rows of which it has the means."""

    found: TaskScore
    rows: list[ExampleRow]


@dataclass(frozen=True)
class Others:
    """Measures the prompts of one trial on other tasks, as it measures them on its own.

    Attributes:
        spec: the trial.
        host, tokenizer: the frozen model.
        tokenizer_fingerprint: names tokenised examples in the cache.
        prefix: the tokens of the trial's written instruction, which stays what it is.
        front: number of positions that prompt and instruction take in front of a text.
    """

    spec: TrialSpec
    host: FrozenLM
    tokenizer: Tokenizer
    tokenizer_fingerprint: str
    prefix: list[int]
    front: int

    def measure(self, entry: Entry, prompt: Prompt | None, step: int) -> OtherScore:
        """The score on a task's test split, or why there is none."""
        try:
            task = TASKS.component(entry)
            prepared = prepare(task, self.tokenizer, self.tokenizer_fingerprint, ("test",))
            info, test = self.host.info(), prepared.test
            require_room(info, self.spec.model, entry.name, task, prepared, [test], self.front)
            method, shape = METHODS.component(self.spec.method), Shape(info.blocks, info.stack)
            require_opening(method, shape, entry.name, [test], self.spec.model, self.tokenizer)
            require_input(method, shape, entry.name, task, test)
            evaluator = Evaluator(self.host, self.tokenizer, task, self.spec.evaluation, self.prefix)
            measured = evaluator.full(prompt, test, step)
        except (UserError, TrialFailedError) as error:
            return OtherScore(unmeasured(entry, str(error)), [])
        except Exception as error:  # of a user's own task, or memory: the trial itself is finished
            return OtherScore(unmeasured(entry, f"{type(error).__name__}: {error}"), [])
        found = TaskScore(
            task=entry,
            fingerprint=fingerprint(entry),
            score=measured.score,
            data={"test": len(test), **prepared.facts()},
            sources=SOURCES,
        )
        return OtherScore(found, measured.rows)

    def measure_all(
        self, entries: Sequence[Entry], prompt: Prompt | None, step: int, report: Report
    ) -> list[OtherScore]:
        """`measure` for several tasks; reports each as it begins."""
        found = []
        for entry in entries:
            report(Phase(step, f"test on {entry.name}"))
            found.append(self.measure(entry, prompt, step))
        return found


def is_current(found: TaskScore) -> bool:
    """Whether it is a score on the data that the task has now; not if nobody can tell."""
    try:
        return found.score is not None and found.fingerprint == fingerprint(found.task)
    except UserError:
        return False


def unmeasured(entry: Entry, reason: str) -> TaskScore:
    """Stands for a score that could not be measured."""
    return TaskScore(task=entry, fingerprint="", error=reason, sources=SOURCES)


def other_tasks(spec: TrialSpec) -> tuple[Entry, ...]:
    """The other tasks that a trial is measured on; its own is not another one."""
    own = spec.task.canonical()
    return tuple(entry for entry in spec.evaluation.also if entry.canonical() != own)


def fingerprint(entry: Entry) -> str:
    """Identifies a task's data, and its code where it is not softprior's own.

    Raises:
        UserError: a local file is missing.
    """
    task = TASKS.component(entry)
    return fingerprints.combined(task.fingerprint(), *TASKS.origins(task))


def current(trials: Iterable[TrialSpec]) -> dict[str, str]:
    """The fingerprints of all other tasks of trials, by the canonical texts of their entries."""
    found = {entry.canonical(): entry for trial in trials for entry in other_tasks(trial)}
    return {text: fingerprint(entry) for text, entry in found.items()}


def missing(spec: TrialSpec, record: Record, known: Mapping[str, str]) -> tuple[Entry, ...]:
    """The tasks that a finished trial has not been measured on yet, or whose data have changed since.

    Args:
        known: the fingerprints that tasks have now, see `current`.
    """
    have = {found.task.canonical(): found.fingerprint for found in record.also if found.score is not None}
    return tuple(
        entry for entry in other_tasks(spec) if have.get(entry.canonical()) != known[entry.canonical()]
    )
