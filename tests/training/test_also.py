"""Other tasks under a trial's final prompt: measured as a trial's own, with it or afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from softprior.inputs.entries import Entry
from softprior.inputs.specs import TrialSpec
from softprior.methods import METHODS
from softprior.prompt import collate
from softprior.results.examples import load_examples, rows_of
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.records import Record, load_record
from softprior.tasks import TASKS
from softprior.tasks.prepare import prepare
from softprior.training import extension
from softprior.training.also import current, missing, other_tasks
from softprior.training.extension import lacking, not_extended
from softprior.training.setup import Setup
from softprior.training.trial import Trial
from tests.builders import SUMS, run, tiny, trial

DIFFERENCES = TASKS["arithmetic"].model_validate(SUMS | {"modules": ["add_or_sub"], "train_examples": 20})
CLOSE = 1e-5
"""Relative, for float32: a row alone has other sizes of matrix products than one in a batch."""


def texts(folder: Path) -> Entry:
    """Running text: the task of forgetting."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(9):
        text = f"Text {i} says that one may count to {i}, and then go on. " * 4
        (folder / f"{i}.txt").write_text(text, encoding="utf-8")
    return TASKS.entry(TASKS["language"](data=str(folder), length=24, train_examples=8))


def with_others(spec: TrialSpec, *tasks: Entry) -> TrialSpec:
    return spec.model_copy(update={"evaluation": spec.evaluation.model_copy(update={"also": tasks})})


class Measured(NamedTuple):
    """A trial that was measured on two other tasks when it ended, and its folder."""

    record: Record
    folder: StudyFolder
    also: tuple[Entry, ...]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    root = tmp_path_factory.mktemp("measured")
    also = (TASKS.entry(DIFFERENCES), texts(root / "texts"))
    return Measured(run(with_others(trial(), *also), root), StudyFolder(root), also)


def extend(spec: TrialSpec, folder: StudyFolder) -> Record:
    """What a worker does with a trial that has its record."""
    loaded = tiny()
    one = Trial(Setup(spec, loaded.host, loaded.tokenizer, loaded.fingerprint), folder, lambda _: None)
    return extension.extend(one, load_record(folder.record(spec.id)), lambda _: None)


def contents(folder: StudyFolder, record: Record) -> dict[str, list[object]]:
    assert record.examples is not None
    return rows_of(load_examples(folder.examples(record.id), record.id, record.examples))  # type: ignore[return-value]


def test_other_tasks_are_no_part_of_a_trials_identity(measured: Measured) -> None:
    plain = trial()
    assert measured.record.id == plain.id
    assert "also" not in plain.canonical()
    assert TrialSpec.model_validate_json(measured.record.spec.canonical()) == measured.record.spec


def test_each_score_is_of_the_posterior_on_the_other_tasks_test_rows(measured: Measured) -> None:
    final = load_posterior(measured.folder.posterior(measured.record.id)).final
    rows, loaded = contents(measured.folder, measured.record), tiny()
    assert [found.task for found in measured.record.also] == list(measured.also)
    assert list(rows) == [measured.record.spec.task.canonical(), *(e.canonical() for e in measured.also)]
    for found in measured.record.also:
        test = prepare(TASKS.component(found.task), loaded.tokenizer, loaded.fingerprint).test
        alone = [loaded.host.loss(final, collate([test.row(i)])) for i in range(min(10, len(test)))]
        assert found.score is not None
        assert found.error is None
        tokens = sum(int(losses.tokens) for losses in alone)
        assert found.score.loss == pytest.approx(sum(float(x.nll) for x in alone) / tokens, rel=CLOSE)
        assert (found.score.examples, found.score.tokens, found.score.step) == (len(alone), tokens, 6)
        assert len(rows[found.task.canonical()]) == len(alone)
    assert measured.record.also[0].score.metrics.keys() == {"exact_match"}  # type: ignore[union-attr]


def test_a_finished_trial_is_measured_from_its_posterior_as_if_it_had_been_at_its_end(
    measured: Measured, tmp_path: Path
) -> None:
    """First on one task, then on the other; what it had stays as it was to the last bit."""
    folder, record = StudyFolder(tmp_path), run(trial(), tmp_path)
    before = folder.posterior(record.id).read_bytes()
    for count in (1, 2):
        spec = with_others(trial(), *measured.also[:count])
        assert missing(spec, record, current([spec])) == measured.also[count - 1 : count]
        record = extend(spec, folder)
        assert missing(spec, record, current([spec])) == ()
        assert load_record(folder.record(record.id)) == record
    assert record.also == measured.record.also
    assert contents(folder, record) == contents(measured.folder, measured.record)
    without = {"environment": {}, "cost": None}
    assert record.model_copy(update=without) == measured.record.model_copy(update=without)
    assert folder.posterior(record.id).read_bytes() == before


def test_a_record_from_before_is_measured_too(measured: Measured, tmp_path: Path) -> None:
    """It has no rows of its own, and gets none of the other tasks: its count would be of these alone."""
    folder, record = StudyFolder(tmp_path), run(trial(), tmp_path)
    folder.examples(record.id).unlink()
    old = record.model_dump_json(exclude={"examples", "also"})
    folder.record(record.id).write_text(old, encoding="utf-8")
    found = extend(with_others(trial(), measured.also[0]), folder)
    assert found.also == measured.record.also[:1]
    assert found.examples is None
    assert not folder.examples(record.id).exists()


def test_a_reason_goes_with_its_task_and_a_score_with_its_data(measured: Measured, tmp_path: Path) -> None:
    """The study first names one task, which could not be measured, and then another."""
    sums, words = measured.also
    record = not_extended(
        with_others(trial(), sums), measured.record.model_copy(update={"also": ()}), "no room"
    )
    assert [lost.reason for lost in lacking(record)] == ["no room"]
    later = not_extended(with_others(trial(), words), record, "its process died")
    assert [(found.task, found.error) for found in later.also] == [(words, "its process died")]
    scored = not_extended(with_others(trial(), sums, words), measured.record, "its process died")
    assert scored.also == measured.record.also, "nothing was lost"
    both = with_others(trial(), sums, words)
    changed = tuple(found.model_copy(update={"fingerprint": "of other data"}) for found in scored.also)
    stale = scored.model_copy(update={"also": changed})
    assert missing(both, stale, current([both])) == (sums, words)
    stale = not_extended(both, stale, "its process died")
    assert [lost.wanted for lost in lacking(stale)] == [sums, words]
    gone = words.model_copy(update={"params": {**words.params, "data": str(tmp_path / "gone")}})
    kept = scored.also[1].model_copy(update={"task": gone})
    lost = not_extended(with_others(trial(), gone), scored.model_copy(update={"also": (kept,)}), "no file")
    assert [found.error for found in lost.also] == ["no file"], "nobody can tell whether it is of these data"


def test_what_is_lost_is_told_and_the_trials_own_numbers_stay(measured: Measured, tmp_path: Path) -> None:
    folder, record = StudyFolder(tmp_path), run(trial(), tmp_path)
    spec = with_others(trial(), measured.also[0])
    whole = folder.posterior(record.id).read_bytes()
    folder.posterior(record.id).unlink()
    found = extend(spec, folder)
    assert (found.status, found.test) == ("finished", record.test)
    assert found.also[0].score is None
    assert found.also[0].error == f"there is no posterior file {folder.posterior(record.id)}"
    folder.posterior(record.id).write_bytes(whole)
    assert extend(spec, folder).also == measured.record.also[:1]


def test_a_task_that_does_not_fit_costs_no_trial(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.txt").write_text(f"{i} " * 3000, encoding="utf-8")
    long = TASKS.entry(TASKS["language"](data=str(folder), length=4096, train_examples=8))
    record = run(with_others(trial(steps=1), long), tmp_path)
    assert record.status == "finished"
    assert record.test is not None
    assert record.also[0].error is not None
    assert "positions, but tiny has" in record.also[0].error


def test_a_trials_own_task_is_not_another(measured: Measured) -> None:
    spec = trial()
    assert other_tasks(with_others(spec, spec.task, *measured.also)) == measured.also


def test_the_baseline_and_an_instruction_are_measured_too(measured: Measured, tmp_path: Path) -> None:
    """The instruction stays that of the trial's own task, as a prompt does."""
    scores = {}
    for method in (METHODS["none"](), METHODS["instruction"](written="Count.")):
        record = run(with_others(trial(method=method), *measured.also), tmp_path)
        scores[record.spec.method.name] = [found.score for found in record.also]
    own = run(trial(method=METHODS["none"](), task=DIFFERENCES), tmp_path)
    assert scores["none"][0] == own.test
    assert all(a.loss != b.loss for a, b in zip(*scores.values(), strict=True) if a and b)
