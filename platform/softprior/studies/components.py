"""The components that the trials of a plan name, resolved once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from softprior.inputs.entries import Entry
from softprior.inputs.specs import TrialSpec
from softprior.methods import METHODS, Method
from softprior.priors import PRIORS, Assignment, assignment
from softprior.tasks import TASKS, Task
from softprior.tasks.base import Split
from softprior.training.also import other_tasks


@dataclass(frozen=True)
class Components:
    """Tasks, methods and priors by the canonical text of their entries.

    Attributes:
        data: what is known of the tasks' examples, by the same texts and as in `Look.notes`.
        lengths: mean number of tokens of their examples, by the same texts and as in `Look.lengths`.
        samples: the same of some of their examples, for tasks that are not tokenised yet.
    """

    tasks: Mapping[str, Task]
    methods: Mapping[str, Method]
    priors: Mapping[str, Assignment]
    data: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    lengths: Mapping[str, Mapping[Split, float]] = field(default_factory=dict)
    samples: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, trials: Iterable[TrialSpec]) -> Components:
        """Those of trials that were planned elsewhere."""
        tasks: dict[str, Entry] = {}
        methods: dict[str, Entry] = {}
        priors: dict[str, Entry] = {}
        for trial in trials:
            for task in (trial.task, *trial.evaluation.also):
                tasks.setdefault(task.canonical(), task)
            methods.setdefault(trial.method.canonical(), trial.method)
            if trial.prior is not None:
                priors.setdefault(trial.prior.canonical(), trial.prior)
        return cls(
            {text: TASKS.component(entry) for text, entry in tasks.items()},
            {text: METHODS.component(entry) for text, entry in methods.items()},
            {text: assignment(PRIORS.component(entry)) for text, entry in priors.items()},
        )

    def __or__(self, other: Components) -> Components:
        """Both."""
        return Components(
            {**self.tasks, **other.tasks},
            {**self.methods, **other.methods},
            {**self.priors, **other.priors},
            {**self.data, **other.data},
            {**self.lengths, **other.lengths},
            {**self.samples, **other.samples},
        )

    def task(self, trial: TrialSpec) -> Task:
        """The task of a trial."""
        return self.task_of(trial.task)

    def others(self, trial: TrialSpec) -> list[Task]:
        """The other tasks that a trial is measured on."""
        return [self.task_of(entry) for entry in other_tasks(trial)]

    def task_of(self, entry: Entry) -> Task:
        """The task of an entry, which in a search may be between those that were planned."""
        known = self.tasks.get(entry.canonical())
        return TASKS.component(entry) if known is None else known

    def examples(self, task: Task, split: Split) -> int:
        """Number of examples of a split: those asked for, less what the data are known to lack."""
        known = self.data.get(self._text(task), {})
        return task.examples_of(split) - known.get(f"{split}_short", 0)

    def positions(self, task: Task, split: Split) -> float:
        """Mean number of tokens of an example, answer included: an estimate until they are tokenised."""
        text = self._text(task)
        known = self.lengths.get(text, {})
        if split in known:
            return known[split]
        return self.samples[text] if text in self.samples else task.positions()

    @cached_property
    def _texts(self) -> dict[int, str]:
        """The texts of the tasks, by identity: plans of thousands of trials ask for each of them often."""
        return {id(task): text for text, task in self.tasks.items()}

    def _text(self, task: Task) -> str:
        known = self._texts.get(id(task))
        return TASKS.entry(task).canonical() if known is None else known

    def are_tokenised(self, trials: Iterable[TrialSpec]) -> bool:
        """Whether the positions of all tasks of these trials are known."""
        tasks = {entry.canonical() for trial in trials for entry in (trial.task, *other_tasks(trial))}
        return all(self.lengths.get(text) for text in tasks)

    def method(self, trial: TrialSpec) -> Method:
        """The method of a trial, which in a search may be between those that were planned."""
        known = self.methods.get(trial.method.canonical())
        return METHODS.component(trial.method) if known is None else known

    def prior(self, trial: TrialSpec) -> Assignment | None:
        """The priors of a trial's places; None without a trained prompt."""
        return None if trial.prior is None else self.priors[trial.prior.canonical()]
