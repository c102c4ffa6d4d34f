"""A study over three nodes of this machine, each with a raylet of its own; one is killed midway."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from softprior.records import load_records
from softprior.results import StudyFolder
from tests.builders import study_file
from tests.ray_nodes import Nodes

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]


def test_a_study_outlives_one_of_its_nodes(tmp_path: Path) -> None:
    training = {"steps": 300, "batch": 8, "checkpoint": 1}
    file = study_file(tmp_path / "small.yaml", seeds=[0, 1], training=training)
    folder = StudyFolder(tmp_path / "results" / "small")
    checkpoints = tmp_path / "results" / "small" / "checkpoints"
    with Nodes() as nodes:
        study = nodes.run("jobs.study", str(file), "--results", str(tmp_path / "results"))
        while len(list(checkpoints.glob("*.safetensors"))) < 2:
            assert study.poll() is None, study.communicate()[0]
            time.sleep(0.1)
        assert nodes.kill_one() == 2, "both workers have a trial"
        output, _ = study.communicate(timeout=400)
        assert study.returncode == 0, output
    records = load_records(folder.records)
    assert len(records) == 5
    assert {record.status for record in records.values()} == {"finished"}
    for record in records.values():
        if record.spec.prior:
            assert [point.step for point in record.steps] == list(range(1, 301))
