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
from softprior.models.protocol import FrozenLM
from softprior.prompt import Prompt
from softprior.results.examples import ExampleRow, load_examples, rows_of, save_examples
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.provenance import SOURCES
from softprior.results.records import Record, TaskScore, save_record
from softprior.tasks import TASKS
from softprior.tasks.prepare import prepare
from softprior.training.evaluation import Evaluator
from softprior.training.events import Phase, Report
from softprior.training.failure import TrialFailedError
from softprior.training.room import require_room

NEVER = "its record does not say why"
"""The reason if there is neither a score nor another reason."""


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
            prepared = prepare(task, self.tokenizer, self.tokenizer_fingerprint)
            info, test = self.host.info(), prepared.test
            require_room(info, self.spec.model, entry.name, task, prepared, [test], self.front)
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

    def extend(self, record: Record, folder: StudyFolder, report: Report) -> Record:
        """Measures a finished trial, from its saved posterior, on the tasks it has not been measured on yet.

        Its own numbers stay as they are. Rows are written first, then the record. A record from before there
        were rows gets none of other tasks either: its file would lack those of its own task.
        """
        wanted = missing(self.spec, record, current([self.spec]))
        if not wanted:
            return record
        try:
            trained = record.spec.training is not None
            prompt = load_posterior(folder.posterior(record.id)).final if trained else {}
            rows = None
            if record.examples is not None:
                rows = rows_of(load_examples(folder.examples(record.id), record.id, record.examples))
        except UserError as error:
            found = [OtherScore(unmeasured(entry, str(error)), []) for entry in wanted]
        else:
            found = self.measure_all(wanted, prompt, len(record.steps), report)
            if rows is not None:
                rows |= {other.found.task.canonical(): other.rows for other in found}
                save_examples(folder.examples(record.id), record.id, rows)
                record = record.model_copy(update={"examples": sum(map(len, rows.values()))})
        extended = _with(record, self.spec, [other.found for other in found])
        save_record(folder.record(record.id), extended)
        return extended

    def measure_all(
        self, entries: Sequence[Entry], prompt: Prompt | None, step: int, report: Report
    ) -> list[OtherScore]:
        """`measure` for several tasks; reports each as it begins."""
        found = []
        for entry in entries:
            report(Phase(step, f"test on {entry.name}"))
            found.append(self.measure(entry, prompt, step))
        return found


def not_extended(spec: TrialSpec, record: Record, reason: str) -> Record:
    """The record of a finished trial that should have been measured on other tasks and was not."""
    return _with(record, spec, [unmeasured(entry, reason) for entry in other_tasks(spec)])


def _with(record: Record, spec: TrialSpec, new: Sequence[TaskScore]) -> Record:
    """The record with further scores; a reason does not replace a score on the same data.

    Reasons are left out that belong to tasks which the trial need not be measured on any longer.
    """
    wanted = {entry.canonical() for entry in other_tasks(spec)}
    have = {
        text: found
        for found in record.also
        if (text := found.task.canonical()) in wanted or found.score is not None
    }
    for found in new:
        old = have.get(found.task.canonical())
        if found.score is not None or old is None or not is_current(old):
            have[found.task.canonical()] = found
    spec = record.spec.model_copy(update={"evaluation": spec.evaluation})
    return record.model_copy(update={"also": tuple(have.values()), "spec": spec})


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


class Lacking(NamedTuple):
    """Another task that a finished trial has no score on, and why."""

    task: Entry
    reason: str


def lacking(record: Record) -> list[Lacking]:
    """The tasks that a finished trial should have been measured on and was not.

    Args:
        record: with the spec that its study has now, which may no longer name a task that an earlier one did.
    """
    if record.status != "finished":
        return []
    have = {found.task.canonical(): found for found in record.also}
    found = [(entry, have.get(entry.canonical())) for entry in other_tasks(record.spec)]
    return [
        Lacking(entry, NEVER if score is None else score.error or NEVER)
        for entry, score in found
        if score is None or score.score is None
    ]


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
