"""Results of a study as tables and mappings."""

from __future__ import annotations

from pathlib import Path

import pytest

from softprior.errors import UserError
from softprior.library.results import Results
from softprior.prompt import Place
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
    with pytest.raises(KeyError):
        results.posteriors["no such trial"]


def test_a_folder_without_a_study_is_refused(tmp_path: Path, finished_study: Finished) -> None:
    with pytest.raises(UserError, match=r"no study\.json"):
        Results(tmp_path)
    folder = finished_study.copy(tmp_path)
    folder.table.unlink()
    with pytest.raises(UserError, match="does not exist yet"):
        _ = Results(folder.root).trials
