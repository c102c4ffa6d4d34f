"""What trials leave for each example, and on running text, as claims take it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from analysis.findings.forgetting import NUMBER as FORGETTING
from analysis.findings.study import Run
from analysis.inference.values import PerExample
from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.results.examples import ExampleRow, load_examples, rows_of
from softprior.results.folder import StudyFolder
from softprior.results.records import Record, TaskScore

RUNNING_TEXT = "language"
"""The task whose loss on other texts is forgetting."""


class Rows(Mapping[str, PerExample]):
    """Losses by trial id, read when needed; trials whose rows cannot be read are not there."""

    def __init__(
        self, folders: Mapping[str, StudyFolder], tasks: Mapping[str, Entry], runs: Sequence[Run]
    ) -> None:
        """
        Args:
            folders: by trial id.
            tasks: of whose examples the losses are, by trial id.
        """
        self._folders, self._tasks = folders, tasks
        self._runs = {run.id: run for run in runs if run.id in tasks and run.record.examples is not None}
        self._known: dict[str, PerExample | None] = {}

    def __getitem__(self, trial: str) -> PerExample:
        if trial not in self._known:
            self._known[trial] = self._read(self._runs[trial])
        found = self._known[trial]
        if found is None:
            raise KeyError(trial)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def _read(self, run: Run) -> PerExample | None:
        try:
            table = load_examples(self._folders[run.id].examples(run.id), run.id, run.record.examples or 0)
        except UserError:
            return None
        return per_example(rows_of(table).get(self._tasks[run.id].canonical(), []), run.seed)


def per_example(rows: Sequence[ExampleRow], seed: int) -> PerExample | None:
    """The measured losses of one trial in the order of their ids; None if there are none."""
    known = sorted((row.example, row) for row in rows if row.nll is not None and row.tokens)
    if not known:
        return None
    return PerExample(
        values=np.array([[row.nll for _, row in known]]),
        weights=np.array([float(row.tokens or 0) for _, row in known]),
        groups=tuple(row.group for _, row in known),
        seeds=(seed,),
        examples=tuple(example for example, _ in known),
    )


def forgetting(runs: Sequence[Run], baselines: Mapping[str, Record]) -> dict[str, dict[str, float]]:
    """Loss on running text with the prompt less the baseline's, for `Study.numbers`.

    Of several texts it is the mean of their differences. Trials that lack one, or whose text is not the
    baseline's, are left out: their numbers would not be of the same text.
    """
    found = {}
    for run in runs:
        baseline = baselines.get(run.axes["task"])
        without = {} if baseline is None else texts(baseline)
        with_prompt = texts(run.record)
        if without and all(with_prompt.get(text) is not None for text in without):
            gaps = [_loss(with_prompt[text]) - _loss(score) for text, score in without.items()]
            found[run.id] = float(np.mean(gaps))
    return {FORGETTING: found} if found else {}


def texts(record: Record) -> dict[tuple[str, str], TaskScore]:
    """The running texts that a trial was measured on, by task and by fingerprint of their data."""
    return {
        (other.task.canonical(), other.fingerprint): other
        for other in record.also
        if other.task.name == RUNNING_TEXT and other.score is not None
    }


def only_text(run: Run) -> Entry | None:
    """The one running text of a trial; None with several, whose examples have no one mean."""
    found = [other.task for other in texts(run.record).values()]
    return found[0] if len(found) == 1 else None


def _loss(score: TaskScore) -> float:
    assert score.score is not None
    return score.score.loss
