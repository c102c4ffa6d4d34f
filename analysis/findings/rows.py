"""What trials leave for each example, and on running text, as claims take it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.findings.forgetting import NUMBER as FORGETTING
from analysis.findings.forgetting import is_running_text
from analysis.findings.study import Run
from analysis.inference.values import PerExample
from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.results.examples import load_examples
from softprior.results.folder import StudyFolder
from softprior.results.records import Record, TaskScore


class ExampleFiles(Mapping[str, Mapping[str, PerExample]]):
    """Losses of each example by trial id and by the canonical text of the task, read when needed and once.

    Attributes:
        lost: a sentence for each file that could not be read so far, by trial id; such trials have no tasks.
    """

    def __init__(self, folders: Mapping[str, StudyFolder], records: Mapping[str, Record]) -> None:
        """
        Args:
            folders: by trial id.
            records: of all trials; those without rows, as from before there were any, are not there.
        """
        self._folders = folders
        self._records = {trial: record for trial, record in records.items() if record.examples is not None}
        self._known: dict[str, dict[str, PerExample]] = {}
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.lost: dict[str, str] = {}

    def __getitem__(self, trial: str) -> Mapping[str, PerExample]:
        if trial not in self._known:
            self._known[trial] = self._read(self._records[trial])
        return self._known[trial]

    def __contains__(self, trial: object) -> bool:
        return trial in self._records  # and not by reading its file, as a mapping would

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def _read(self, record: Record) -> dict[str, PerExample]:
        path = self._folders[record.id].examples(record.id)
        try:
            table = load_examples(path, record.id, record.examples or 0)
        except UserError as error:
            self.lost[record.id] = str(error)
            return {}
        found = {}
        for task in pc.unique(table["task"]).to_pylist():
            own = per_example(table.filter(pc.field("task") == task), record.spec.seed or 0)
            if own is not None:
                found[task] = self._shared(own)
        return found

    def _shared(self, own: PerExample) -> PerExample:
        """The same with the ids of another trial: five hundred trials have the same examples."""
        groups, examples = (
            self._names.setdefault(names, names) for names in (tuple(own.groups), own.examples)
        )
        return PerExample(own.values, own.weights, groups, own.seeds, examples)


class Rows(Mapping[str, PerExample]):
    """Losses of the examples of one task of each trial; trials whose rows cannot be read are not there."""

    def __init__(self, files: ExampleFiles, tasks: Mapping[str, Entry]) -> None:
        """
        Args:
            tasks: of whose examples the losses are, by trial id.
        """
        self._files = files
        self._tasks = {trial: task.canonical() for trial, task in tasks.items() if trial in files}

    def __getitem__(self, trial: str) -> PerExample:
        return self._files[trial][self._tasks[trial]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)


def per_example(rows: pa.Table, seed: int) -> PerExample | None:
    """The measured losses of one trial on one task in the order of their ids; None if there are none."""
    known = rows.filter(pc.field("nll").is_valid() & (pc.field("tokens") > 0)).sort_by("example")
    if not len(known):
        return None
    return PerExample(
        values=known["nll"].to_numpy()[None],
        weights=known["tokens"].to_numpy().astype(float),
        groups=tuple(known["group"].to_pylist()),
        seeds=(seed,),
        examples=tuple(known["example"].to_pylist()),
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
    """Running texts that a trial was measured on and its study names, by task and fingerprint of the data.

    Records keep the scores of tasks that a study no longer names; trials that it got since lack them.
    """
    named = {entry.canonical() for entry in record.spec.evaluation.also}
    return {
        (other.task.canonical(), other.fingerprint): other
        for other in record.also
        if is_running_text(other.task) and other.score is not None and other.task.canonical() in named
    }


def only_text(run: Run) -> Entry | None:
    """The one running text of a trial; None with several, whose examples have no one mean."""
    found = [other.task for other in texts(run.record).values()]
    return found[0] if len(found) == 1 else None


def _loss(score: TaskScore) -> float:
    assert score.score is not None
    return score.score.loss
