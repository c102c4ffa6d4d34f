"""The command as a user runs it: findings and figures beside the store, made once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from jobs.activations import FINISHED, main
from jobs.support.store_findings import known
from softprior.activations.findings.record import Findings, save_findings
from softprior.activations.folder import RunFolder
from softprior.results.digested import read_header, write_digested
from softprior.results.provenance import code
from softprior.tracking.client import default_uri
from tests.activations.test_worker import spec
from tests.databases import empty_database


def test_findings_of_other_code_are_not_shown(tmp_path: Path) -> None:
    """What older versions wrote does not name its code."""
    folder = RunFolder(tmp_path)
    folder.summary.write_text("{}")
    made = {**code(), "summary": hashlib.sha256(b"{}").hexdigest()}
    empty = Findings(seed=0, sites=(), tasks={}, pairs={}, groups={}, nearest={}, **made)
    for found, same in ((empty.amended(sources="another"), False), (empty, True)):
        save_findings(tmp_path / "findings.json", found)
        assert known(folder) == (found if same else None)
    # A run that has merged anew, on a clock that has gone back meanwhile.
    folder.summary.write_text('{"key": ""}')
    os.utime(folder.summary, (0, 0))
    assert known(folder) is None
    (tmp_path / "findings.json").write_text('{"sentences": []}')
    assert known(folder) is None


@pytest.mark.ray
@pytest.mark.usefixtures("quick_tsne")
def test_findings_and_figures_are_made_once_and_again_after_a_new_run(
    undisturbed: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(spec().model_dump(mode="json", exclude_defaults=True)))
    command = [str(file), "--results", str(tmp_path)]
    root = tmp_path / "small"
    shutil.copytree(undisturbed.root, root)
    empty_database(tmp_path)
    assert main([*command, "--no-findings"]) == FINISHED
    assert not (root / "findings.json").exists()
    capsys.readouterr()

    assert main(command) == FINISHED
    shown = capsys.readouterr().out
    for line in json.loads((root / "findings.json").read_text())["sentences"]:
        assert line in shown
    assert "resid.3" in shown
    assert f"findings {root / 'findings.json'}" in shown
    made = [root / "findings.json", *(root / "figures").iterdir()]
    assert len(made) == 1 + 2 * 5, "each as PNG and PDF"
    before = {path: path.stat().st_mtime_ns for path in made}

    assert main(command) == FINISHED
    assert {path: path.stat().st_mtime_ns for path in made} == before
    # A drawing that was stopped is drawn again, its numbers are not.
    (root / "figures" / "activations-depth.png").unlink()
    assert main(command) == FINISHED
    assert (root / "figures" / "activations-depth.png").exists()
    assert (root / "findings.json").stat().st_mtime_ns == before[root / "findings.json"]

    summary = root / "activations.json"
    write_digested(summary, read_header(summary) | {"commit": "another"})
    assert main(command) == FINISHED
    assert all(path.stat().st_mtime_ns > before[path] for path in made)

    client = MlflowClient(tracking_uri=default_uri(tmp_path))
    experiment = client.get_experiment_by_name("softprior/small")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["model"] == json.loads((root / "activations.json").read_text())["identity"]["model"]
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "arithmetic/participation")]
    assert steps == [0, 1, 2]
    logged = [file.path for file in client.list_artifacts(run.info.run_id)]
    assert {"activations.json", "findings.json", "activations-depth.png"} <= set(logged)
