"""A study whose results are in a bucket: killed, resumed, with a failed trial, refused without a server."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
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


def test_killed_and_resumed_in_a_bucket_its_failed_trial_stops_no_other_and_nothing_runs_twice(
    bucket: str,
    server: Server,
    undisturbed: Undisturbed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    training = {"steps": 40, "batch": 8, "checkpoint": 1}
    tracking = {"uri": server.uri}
    priors = ["fitted", {"isotropic": {"scale": 1e39}}]
    file = study_file(tmp_path / "small.yaml", priors=priors, training=training, tracking=tracking)
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
    before = load_records(folder.records)
    assert command.main([*arguments, also]) == 1, capsys.readouterr()
    output = capsys.readouterr().out
    assert "Failed trials" in output
    assert "scale of the prior" in output
    assert "Traceback" not in output
    assert "1 finished trial measured on arithmetic too, from the saved posterior" in output
    assert f"results  {results}/small" in output
    assert f"compare  {server.uri}" in output
    assert not folder.lock.exists()
    every = load_records(folder.records)
    assert sorted(record.status for record in every.values()) == ["failed", "finished", "finished"]
    records = {i: record for i, record in every.items() if record.status == "finished"}
    assert set(before) < set(records)
    ran = {i: record.environment for i, record in before.items()}
    assert ran == {i: records[i].environment for i in before}, "a trial ran again"
    assert_as_undisturbed(folder, records, undisturbed)
    for record in records.values():  # the baseline had finished before
        assert [found.error for found in record.also] == [None]
        assert record.examples == len(load_examples(folder.examples(record.id), record.id, 18)) == 10 + 8
    assert_tracked(results, every, server.uri)
    assert not (ROOT / "s3:").exists()

    parent, runs = tracked(results, server.uri)
    assert parent.info.status == "FAILED"
    (trained,) = (record for record in records.values() if record.spec.prior)
    assert trained.also == undisturbed(trained.spec)[0].also
    assert folder.figure(trained.id).exists()
    table = pq.read_table(io.BytesIO(folder.table.read_bytes()))
    rows = {row["trial"]: row for row in table.to_pylist()}
    assert set(rows) == set(every)
    (baseline,) = (row["test_loss"] for row in rows.values() if row["method"] == "none")
    assert all(row["baseline_loss"] == baseline for row in rows.values())
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
