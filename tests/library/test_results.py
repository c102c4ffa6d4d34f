"""Results of a study as tables and mappings."""

from __future__ import annotations

from pathlib import Path

import pytest

from softprior.errors import UserError
from softprior.inputs.labels import short_ids
from softprior.library.results import Results, UnknownTrialError, full_id
from softprior.prompt import Place
from softprior.results.examples import COLUMNS
from softprior.results.records import save_record
from tests.builders import Finished


def test_tables_say_what_the_records_say(finished_study: Finished) -> None:
    results = Results(str(finished_study.folder.root))
    records = finished_study.records
    assert list(results.records) == [trial.id for trial in finished_study.plan.trials]
    assert dict(results.records) == records
    assert set(results.trials.trial) == set(records)
    curves = results.curves.set_index(["trial", "step"])
    for trial, record in records.items():
        own = curves.loc[trial]
        assert own.loss.dropna().tolist() == [point.loss for point in record.steps]
        assert own.validation_loss.dropna().tolist() == [score.loss for score in record.validation]
    assert results.curves.label.nunique() == len(records)
    assert len(results.predictions) == sum(len(record.predictions) for record in records.values())
    assert results.summary is None


def test_posteriors_are_those_of_trained_trials(finished_study: Finished) -> None:
    results = Results(finished_study.folder.root)
    trained = [trial.id for trial in finished_study.plan.trials if trial.training is not None]
    assert list(results.posteriors) == trained
    assert len(results.posteriors) == len(trained)
    assert results.posteriors[trained[0]].final[Place(0)].shape == (4, 128)
    assert results.posteriors[trained[0][:6]].header == results.posteriors[trained[0]].header
    assert results.posteriors.get("no such trial") is None


def test_ids_as_tables_print_them_are_found_and_others_refused_in_a_sentence(
    finished_study: Finished,
) -> None:
    results = Results(finished_study.folder.root)
    for trial, short in short_ids(list(results.records)).items():
        assert results.records[short] is results.records[trial]
        assert results.labels[short] == results.labels[trial]
    refusal = r"^'{}' is not the id of one of these \d trials, nor its first 6 or more characters; "
    for unknown in ("no such trial", next(iter(results.records))[:3], ""):
        with pytest.raises(UnknownTrialError, match=refusal.format(unknown)):
            results.records[unknown]
        with pytest.raises(UnknownTrialError, match=refusal.format(unknown)):
            results.posteriors[unknown]
    with pytest.raises(UnknownTrialError, match="2 trials have ids that begin with 'abcdef'; give more"):
        full_id("abcdef", ["abcdef1", "abcdef2"])


def test_a_folder_without_a_study_is_refused(tmp_path: Path, finished_study: Finished) -> None:
    with pytest.raises(UserError, match=r"no study\.json"):
        Results(tmp_path)
    folder = finished_study.copy(tmp_path)
    folder.table.unlink()
    with pytest.raises(UserError, match="does not exist yet"):
        _ = Results(folder.root).trials


def test_examples_are_joined_over_all_trials(finished_study: Finished) -> None:
    found = Results(finished_study.folder.root).examples
    assert list(found.columns) == ["trial", "label", *(name for name, _ in COLUMNS), "exact_match"]
    assert len(found) == 30, "ten of each of three trials, the baseline among them"
    assert found.task.unique().tolist() == ["arithmetic"]
    for trial, own in found.groupby("trial"):
        test = finished_study.records[trial].test
        assert test is not None
        assert own.nll.sum() / own.tokens.sum() == pytest.approx(test.loss, rel=1e-12)
    wide = found.pivot(index="example", columns="label", values="nll")
    assert wide.shape == (10, 3)
    assert wide.notna().all(axis=None), "every trial has the same examples"


def test_examples_that_are_lost_are_told_and_the_others_are_there(
    tmp_path: Path, finished_study: Finished
) -> None:
    folder = finished_study.copy(tmp_path)
    gone, cut, whole = finished_study.records
    folder.examples(gone).unlink()
    folder.examples(cut).write_bytes(folder.examples(cut).read_bytes()[:-100])
    results = Results(folder.root)
    with pytest.warns(UserWarning, match="examples of 2 trials are left out: there is no file .*delete the"):
        found = results.examples
    assert found.trial.unique().tolist() == [whole]
    assert len(results.trials) == len(results.records) == 3


def test_a_study_from_before_there_were_rows_has_none(tmp_path: Path, finished_study: Finished) -> None:
    folder = finished_study.copy(tmp_path)
    for trial, record in finished_study.records.items():
        folder.examples(trial).unlink()
        save_record(folder.record(trial), record.model_copy(update={"examples": None}))
    found = Results(folder.root).examples
    assert found.empty
    assert list(found.columns) == ["trial", "label", *(name for name, _ in COLUMNS)]
