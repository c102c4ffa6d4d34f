"""A study read from MLflow alone is the study of its folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from softprior.errors import UserError
from softprior.library.results import Results
from softprior.tracking.client import open_experiment
from softprior.tracking.mlflow_tracker import MlflowTracker
from tests.builders import Finished


def test_results_from_mlflow_are_those_of_the_folder(
    finished_study: Finished, uri: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = finished_study.copy(tmp_path / "own")
    tracker = MlflowTracker(uri, finished_study.plan.study, finished_study.plan.trials, folder)
    tracker.close(finished_study.records)
    assert tracker.problem is None
    capfd.readouterr()
    own, fetched = Results(folder.root), Results.from_mlflow(uri, "small", tmp_path / "fetched")
    assert "Downloading" not in capfd.readouterr().err, "no bar for each file"
    for table in ("trials", "curves", "examples", "geometry", "sanity", "predictions"):
        pd.testing.assert_frame_equal(getattr(own, table), getattr(fetched, table))
    assert own.records == fetched.records
    assert set(own.posteriors) == set(fetched.posteriors)
    for trial, posterior in own.posteriors.items():
        for place, vectors in posterior.final.items():
            assert torch.equal(vectors, fetched.posteriors[trial].final[place])
    assert own.study == fetched.study


def test_what_mlflow_does_not_have_is_said(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"there is no database .*nowhere\.db; put it there"):
        Results.from_mlflow(f"sqlite:///{tmp_path / 'nowhere.db'}", "absent", tmp_path / "copy")
    assert not (tmp_path / "nowhere.db").exists()
    with pytest.raises(UserError, match=r"'mlflow\.db' is no address of MLflow; give http"):
        Results.from_mlflow("mlflow.db", "absent", tmp_path / "copy")
    with pytest.raises(UserError, match="has no study 'absent'; it has no studies"):
        Results.from_mlflow(uri, "absent", tmp_path / "fetched")
    open_experiment(uri, "softprior/begun", tmp_path)
    with pytest.raises(UserError, match=r"no study\.json of the study 'begun'; it is sent when a run"):
        Results.from_mlflow(uri, "begun", tmp_path / "fetched")
    with pytest.raises(UserError, match=r"cannot be read from MLflow: .*Connection"):
        Results.from_mlflow("http://127.0.0.1:9", "absent", tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
