"""Trials whose processes Ray ends because their node is low on memory."""

from __future__ import annotations

import re
import time
from pathlib import Path

import psutil
import pytest

from softprior.results.folder import StudyFolder
from softprior.results.records import load_records
from tests.builders import study_file
from tests.studies.runs import (
    Undisturbed,
    assert_as_undisturbed,
    assert_tracked,
    finish,
    nothing_is_left_running,
    planned,
    start,
    undisturbed,
    wait_for,
    wait_for_checkpoint,
    workers_of,
)

__all__ = ["nothing_is_left_running", "undisturbed"]  # fixtures

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]

STUDY = {"priors": ["isotropic"], "resources": {"cpus": 1, "concurrent": 1, "patience": 20}}
GIB = 2**30


def watched(share: float) -> dict[str, str]:
    """Variables of a study whose node is low on memory from this share of it on."""
    return {"RAY_memory_usage_threshold": f"{share:.4f}", "RAY_memory_monitor_refresh_ms": "100"}


def test_a_trial_goes_on_once_there_is_memory_again(tmp_path: Path, undisturbed: Undisturbed) -> None:
    memory = psutil.virtual_memory()
    if memory.available < 6 * GIB:
        pytest.skip(f"{memory.available / GIB:.1f} GiB of memory are free, and it takes 6")
    training = {"steps": 600, "batch": 8, "checkpoint": 1}
    study, results = study_file(tmp_path / "small.yaml", **STUDY, training=training), tmp_path / "results"
    trial, folder = planned(study)["soft isotropic"], StudyFolder(results / "small")
    limit = memory.total - memory.available + 3 * GIB
    process = start(study, results, **watched(limit / memory.total))
    wait_for_checkpoint(process, folder)
    (worker,) = wait_for(lambda: workers_of(process.pid, Path(folder.stalls(trial.id))), process)
    ballast = []
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert psutil.virtual_memory().available > GIB, "Ray did nothing"
        assert process.poll() is None
        ballast.append(b"1" * 2**29)
        time.sleep(0.1)
    ballast.clear()

    code, output = finish(process)
    assert code == 0, output
    said = r"Ray ended its process because the node was low on memory \(step \d+\); started again"
    assert len(re.findall(said, output)) >= 1, output
    assert "Traceback" not in output
    records = load_records(folder.records)
    assert len(records) == 2
    assert_as_undisturbed(folder, records, undisturbed)
    assert_tracked(results, records)


def test_without_memory_trials_fail_with_a_sentence_and_the_next_command_completes_them(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    study, results = study_file(tmp_path / "small.yaml", **STUDY), tmp_path / "results"
    folder = StudyFolder(results / "small")
    code, output = finish(start(study, results, **watched(0.01)))
    assert code == 1, output
    assert "Traceback" not in output
    records = load_records(folder.records)
    assert len(records) == 2
    for record in records.values():
        assert record.status == "failed"
        said = r"Ray ended its process because the node was low on memory \(step 0.*\), 3 times.*; lower .*"
        assert re.fullmatch(said, record.error), record.error
    assert_tracked(results, records)

    code, output = finish(start(study, results))
    assert code == 0, output
    records = load_records(folder.records)
    assert_as_undisturbed(folder, records, undisturbed)
    assert_tracked(results, records)
