"""Activation statistics with results in a bucket: the same store as in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from jobs.activations import FINISHED, main
from softprior.activations.folder import RunFolder
from softprior.activations.merging import finish, saved_shards
from softprior.activations.plan import plan_activations
from softprior.activations.state import KEY
from softprior.errors import UserError
from softprior.results import lease, storage
from softprior.results.digested import read_header
from softprior.results.storage import location
from softprior.results.tensor_files import DIGESTED, DIGESTS
from tests.activations.test_worker import assert_same_store, read, spec, worker
from tests.object_store import bucket
from tests.tracking_server import Server, server

__all__ = ["bucket", "server"]  # fixtures


@pytest.mark.parametrize("first", [storage.FIRST, 100], ids=["whole", "cut"])
def test_a_worker_that_died_has_its_shards_in_the_bucket(
    first: int, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "FIRST", first)  # headers that do not fit the first request, too
    plan = plan_activations(spec())
    folder, here = RunFolder(location(f"{bucket}/small")), RunFolder(tmp_path / "here")
    one, other = worker(plan, folder), worker(plan, folder)
    assert len(plan.shards) > 3
    every = range(len(plan.shards))
    read(one, plan, *every[:2])
    assert len(saved_shards(plan, folder)) == 2
    outcomes = read(other, plan, *every)
    assert not any(outcome.error for outcome in outcomes)
    # One has the vocabulary and a shard of the task; the other has what was missing.
    assert sorted(len(p.shards) for p in folder.partials("arithmetic")) == [1, len(plan.shards) - 2]
    summary = finish(plan, folder, {})
    assert read_header(folder.summary) == json.loads(json.dumps(summary))
    assert not folder.parts.exists()

    read(worker(plan, here), plan, *every)
    finish(plan, here, {})
    copied = RunFolder(tmp_path / "copied")
    folder.store.download(copied.store)
    assert_same_store(here, copied)


def test_sums_in_a_bucket_that_are_damaged_are_told(bucket: str) -> None:
    folder = RunFolder(location(f"{bucket}/damaged"))
    said = {"task": "arithmetic", "shards": {}, "sites": {}, DIGESTED: True, DIGESTS: ["of another"]}
    texts = [b"{}", *(json.dumps({"__metadata__": {KEY: text}}).encode() for text in (5, json.dumps(said)))]
    sized = [
        size.to_bytes(8, "little") + text for size, text in ((10**6, b"{}"), *((len(t), t) for t in texts))
    ]
    for content in (b"short", *sized):
        folder.partial("arithmetic", "one").write_bytes(content)
        with pytest.raises(UserError, match="is damaged"):
            folder.partials("arithmetic")


@pytest.mark.faults  # a study with results in a bucket runs in every run of the suite
@pytest.mark.ray
@pytest.mark.usefixtures("quick_tsne")
def test_the_command_with_results_in_a_bucket(
    bucket: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(lease, "SETTLED", 0.1)
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(spec().model_dump(mode="json", exclude_defaults=True)))
    command = [str(file), f"tracking.uri={server.uri}", "--results", f"{bucket}/results"]
    root = location(f"{bucket}/results/small")
    assert main(command) == FINISHED, capsys.readouterr()
    output = capsys.readouterr().out
    assert f"store    {root}/store" in output
    assert f"statistics: {root}/store, task: arithmetic" in output
    found = json.loads((root / "findings.json").read_text())
    assert all(sentence in output for sentence in found["sentences"])
    assert (root / "figures" / "activations-depth.png").exists()
    assert not (root / ".lock").exists()
    before = (root / "findings.json").modified()

    assert main(command) == FINISHED
    assert (root / "findings.json").modified() == before, "what is done is not done again"

    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("softprior/small")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    logged = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"activations.json", "findings.json", "activations-depth.png"} <= logged
