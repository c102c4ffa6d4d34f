"""A study whose results are in a bucket: killed, resumed, refused without a server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from jobs import study as command
from softprior import storage
from softprior.posteriors import load_posterior
from softprior.prompt import Place
from softprior.records import load_records
from softprior.results import StudyFolder
from softprior.storage import location
from softprior.studies import lease
from tests.builders import run, study_file
from tests.object_store import object_store
from tests.ray_head import ROOT, end, free_ports

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with object_store(monkeypatch) as found:
        storage._store.cache_clear()
        yield found
    storage._store.cache_clear()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    options = [
        f"--backend-store-uri=sqlite:///{tmp_path}/mlflow.db",
        f"--artifacts-destination={tmp_path}/artifacts",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)


def test_killed_and_resumed_with_results_in_a_bucket(
    bucket: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    training = {"steps": 40, "batch": 8, "checkpoint": 1}
    file = study_file(tmp_path / "small.yaml", priors=["fitted"], training=training, tracking={"uri": server})
    arguments = [str(file), "--results", f"{bucket}/results"]
    folder = StudyFolder(location(f"{bucket}/results/small"))
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.study", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        while not list((folder.root / "checkpoints").glob("*.safetensors")):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert folder.lock.exists()

    monkeypatch.setattr(lease, "STALE", 1.0)
    monkeypatch.setattr(lease, "SETTLED", 0.1)
    monkeypatch.chdir(ROOT)
    assert command.main(arguments) == 0, capsys.readouterr()
    output = capsys.readouterr().out
    assert f"results  {bucket}/results/small" in output
    assert f"compare  {server}" in output
    assert not folder.lock.exists()
    records = load_records(folder.records)
    assert {record.status for record in records.values()} == {"finished"}
    (trained,) = (record for record in records.values() if record.spec.prior)
    assert [point.step for point in trained.steps] == list(range(1, 41))
    assert folder.figure(trained.id).exists()
    assert not folder.checkpoint(trained.id).exists()
    assert not (ROOT / "s3:").exists()

    undisturbed = run(trained.spec, tmp_path / "undisturbed")
    one = load_posterior(folder.posterior(trained.id)).final[Place(0)]
    two = load_posterior(StudyFolder(tmp_path / "undisturbed").posterior(trained.id)).final[Place(0)]
    assert torch.equal(one, two)
    assert undisturbed.test == trained.test

    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("softprior/small")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(found.info.status for found in runs) == ["FINISHED"] * 3
    (own,) = (found for found in runs if found.data.tags.get("softprior.trial") == trained.id)
    named = {artifact.path for artifact in client.list_artifacts(own.info.run_id)}
    assert named == {f"{trained.id}.json", f"{trained.id}.png", f"{trained.id}.safetensors"}


def test_without_a_tracking_server_it_is_refused_before_anything_runs(
    bucket: str, tmp_path: Path, capsys
) -> None:
    file = study_file(tmp_path / "small.yaml")
    assert command.main([str(file), "--results", f"{bucket}/refused"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: results in s3://softprior-bucket/refused need a tracking server")
    assert error.count("\n") == 1
    assert not location(f"{bucket}/refused").exists()
