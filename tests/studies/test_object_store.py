"""A study whose results are in a bucket: killed, resumed, refused without a server."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from jobs import study as command
from softprior.results import lease
from softprior.results.examples import load_examples
from softprior.results.folder import StudyFolder
from softprior.results.records import load_records
from softprior.results.storage import location
from tests.builders import study_file
from tests.object_store import bucket
from tests.ray_head import ROOT
from tests.studies.runs import (
    ONE,
    Undisturbed,
    assert_as_undisturbed,
    assert_tracked,
    kill,
    nothing_is_left_running,
    start,
    tracked,
    undisturbed,
    wait_for_checkpoint,
)
from tests.tracking_server import Server, server

__all__ = ["bucket", "nothing_is_left_running", "server", "undisturbed"]  # fixtures

ENDS = (".json", ".parquet", ".png", ".safetensors")
"""Of the files that a trained trial leaves."""

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def test_killed_and_resumed_with_results_in_a_bucket(
    bucket: str,
    server: Server,
    undisturbed: Undisturbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    training = {"steps": 40, "batch": 8, "checkpoint": 1}
    tracking = {"uri": server.uri}
    file = study_file(tmp_path / "small.yaml", priors=["fitted"], training=training, tracking=tracking)
    results = f"{bucket}/results"
    arguments = [str(file), "--results", results]
    folder = StudyFolder(location(f"{results}/small"))
    process = start(file, results, ONE)
    wait_for_checkpoint(process, folder)
    kill(process)
    assert folder.lock.exists()

    monkeypatch.setattr(lease, "STALE", 1.0)
    monkeypatch.setattr(lease, "SETTLED", 0.1)
    monkeypatch.chdir(ROOT)
    also = "evaluation.also=[{arithmetic: {modules: [mul], train_examples: 20, test_examples: 8}}]"
    assert command.main([*arguments, also]) == 0, capsys.readouterr()
    output = capsys.readouterr().out
    assert "1 finished trial measured on arithmetic too, from the saved posterior" in output
    assert f"results  {results}/small" in output
    assert f"compare  {server.uri}" in output
    assert not folder.lock.exists()
    records = load_records(folder.records)
    assert len(records) == 2
    assert_as_undisturbed(folder, records, undisturbed)
    for record in records.values():  # the baseline had finished before
        assert [found.error for found in record.also] == [None]
        assert record.examples == len(load_examples(folder.examples(record.id), record.id, 18)) == 10 + 8
    assert_tracked(results, records, server.uri)
    assert not (ROOT / "s3:").exists()

    parent, runs = tracked(results, server.uri)
    assert parent.info.status == "FINISHED"
    (trained,) = (record for record in records.values() if record.spec.prior)
    assert trained.also == undisturbed(trained.spec)[0].also
    assert folder.figure(trained.id).exists()
    artifacts = MlflowClient(server.uri).list_artifacts(runs[trained.id].info.run_id)
    assert {a.path for a in artifacts} == {f"{trained.id}{end}" for end in ENDS}


def test_without_a_tracking_server_it_is_refused_before_anything_runs(
    bucket: str, tmp_path: Path, capsys
) -> None:
    file = study_file(tmp_path / "small.yaml")
    assert command.main([str(file), "--results", f"{bucket}/refused"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: results in s3://softprior-bucket/refused need a tracking server")
    assert error.count("\n") == 1
    assert not location(f"{bucket}/refused").exists()
