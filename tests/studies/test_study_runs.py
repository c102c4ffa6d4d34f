"""Whole studies through Ray Tune: finishing, failing, being killed and going on, and being stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from softprior.records import load_records, save_record
from softprior.results import StudyFolder
from softprior.studies.plan import plan_study
from softprior.studies.table import columns
from softprior.studies.worker import failed
from softprior.study_files import load_study
from softprior.tasks import TASKS
from tests.builders import SUMS, study_file
from tests.ray_head import ROOT
from tests.studies.runs import (
    ONE,
    Undisturbed,
    assert_as_undisturbed,
    assert_tracked,
    finish,
    kill,
    nothing_is_left_running,
    start,
    tracked,
    undisturbed,
    wait_for,
)

__all__ = ["nothing_is_left_running", "undisturbed"]  # fixtures

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def test_failed_trials_do_not_stop_the_others_and_nothing_runs_twice(tmp_path: Path) -> None:
    study = study_file(tmp_path / "small.yaml", priors=["fitted", {"isotropic": {"scale": 1e39}}])
    results = tmp_path / "results"
    folder = StudyFolder(results / "small")
    fitted = next(t for t in plan_study(load_study(study)).trials if t.prior and t.prior.name == "fitted")
    stopped = failed(fitted, "stopped by a search of this name", {}).model_copy(update={"status": "stopped"})
    save_record(folder.record(fitted.id), stopped)
    code, output = finish(start(study, results, ONE))
    assert code == 1, output
    records = load_records(folder.records)
    statuses = sorted((r.spec.prior.name if r.spec.prior else "", r.status) for r in records.values())
    assert statuses == [("", "finished"), ("fitted", "finished"), ("isotropic", "failed")]
    assert "Failed trials" in output
    assert "scale of the prior" in output
    assert "Traceback" not in output

    table = pq.read_table(folder.table)
    assert table.schema.equals(columns([TASKS["arithmetic"].model_validate(SUMS)]))
    rows = {row["trial"]: row for row in table.to_pylist()}
    baseline = next(row["test_loss"] for row in rows.values() if row["method"] == "none")
    assert all(row["baseline_loss"] == baseline for row in rows.values())
    finished = {i for i, r in records.items() if r.status == "finished"}
    trained = {i for i in finished if records[i].spec.prior}
    assert {p.stem for p in folder.figure("x").parent.glob("*.png")} == trained
    assert {p.stem for p in folder.posterior("x").parent.glob("*.safetensors")} == trained

    assert_tracked(results, records)

    written = {i: folder.record(i).stat().st_mtime_ns for i in finished}
    code, output = finish(start(study, results, ONE, "priors=[fitted]"))
    assert code == 0, output
    assert "2 of 2 trials are finished already" in output
    assert written == {i: folder.record(i).stat().st_mtime_ns for i in finished}
    assert len(tracked(results)[1]) == 3


def test_killed_and_stopped_it_goes_on_without_loss_or_duplicates(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    """SIGKILL of everything, Ctrl-C and SIGTERM, each in the middle of the trial; then to the end."""
    # Long enough that the worker, which outlives a killed driver by a moment, cannot end before Ray stops it.
    training = {"steps": 400, "batch": 8, "checkpoint": 1}
    study = study_file(tmp_path / "small.yaml", priors=["fitted"], training=training)
    results = tmp_path / "results"
    folder = StudyFolder(results / "small")
    trained = next(spec.id for spec in plan_study(load_study(study)).trials if spec.prior)
    checkpoint, written = folder.checkpoint(trained), 0
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        process = start(study, results, ONE)
        wait_for(lambda: checkpoint.exists() and checkpoint.stat().st_mtime_ns != written, process)  # noqa: B023
        if number == signal.SIGKILL:
            kill(process)
            assert trained not in load_records(folder.records), "the trial ended before the kill"
            time.sleep(3)  # Ray's workers live on for a moment
            written = checkpoint.stat().st_mtime_ns
            continue
        process.send_signal(number)
        code, output = finish(process)
        assert code == 128 + number, output
        assert "Traceback" not in output
        assert "***" not in output, "Ray's crash dump"
        assert "stopping; running trials will continue" in output
        assert "continue with" in output
        status = {row["trial"]: row["status"] for row in pq.read_table(folder.table).to_pylist()}
        assert len(status) == 2
        assert status[trained] == "pending"
        parent, runs = tracked(results)
        assert parent.info.status == runs[trained].info.status == "KILLED"
        # No worker goes on training behind the user's back.
        written = checkpoint.stat().st_mtime_ns
        time.sleep(2)
        assert checkpoint.stat().st_mtime_ns == written

    code, output = finish(start(study, results, ONE))
    assert code == 0, output
    records = load_records(folder.records)
    assert len(records) == 2
    assert_as_undisturbed(folder, records, undisturbed)
    assert_tracked(results, records)
    assert tracked(results)[0].info.status == "FINISHED"


def test_more_cpus_than_any_node_has_is_said_at_once(tmp_path: Path) -> None:
    study = study_file(tmp_path / "small.yaml")
    code, output = finish(start(study, tmp_path / "results", ONE, "resources.cpus=4096"))
    assert code == 2, output
    assert "error: a trial or worker asks for 4,096 CPUs" in output
    assert "Traceback" not in output


def test_a_study_that_is_running_is_not_run_twice(tmp_path: Path) -> None:
    study = study_file(tmp_path / "small.yaml")
    folder = StudyFolder(tmp_path / "results" / "small")
    folder.root.mkdir(parents=True)
    with FileLock(folder.lock):
        code, output = finish(start(study, tmp_path / "results", ONE))
    assert code == 2, output
    assert "another process is running in" in output


def test_a_worker_sees_the_standard_librarys_platform() -> None:
    code = (
        "import ray\n"
        "from softprior.specs import ResourcesSpec\n"
        "from softprior.studies.cluster import Cluster\n"
        "@ray.remote(num_cpus=1)\n"
        "def where():\n"
        "    import platform, softprior\n"
        "    return platform.__file__, softprior.__file__, platform.system()\n"
        "with Cluster(ResourcesSpec(cpus=1)):\n"
        "    print('FOUND', *ray.get(where.remote()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found = next(line for line in done.stdout.splitlines() if line.startswith("FOUND")).split()
    assert "python3" in found[1]
    assert found[1].endswith("/platform.py")
    assert found[2] == str(ROOT / "platform" / "softprior" / "__init__.py")
    assert found[3] == "Linux"
