"""Whole studies through Ray Tune: finishing, failing, being killed and going on, and being stopped."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from softprior.inputs.study_files import load_grid
from softprior.results.folder import StudyFolder
from softprior.results.records import load_records, save_record
from softprior.studies.failures import failed
from softprior.studies.plan import plan_study
from softprior.studies.table import columns
from softprior.tasks import TASKS
from tests.builders import SUMS, study_file
from tests.studies.runs import (
    ONE,
    Undisturbed,
    assert_as_undisturbed,
    assert_tracked,
    here,
    nothing_is_left_running,
    start,
    stop,
    tracked,
    undisturbed,
    wait_for,
)

__all__ = ["nothing_is_left_running", "undisturbed"]  # fixtures

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.mark.faults  # test_object_store has a trial that fails in every run of the suite
def test_failed_trials_do_not_stop_the_others_and_nothing_runs_twice(tmp_path: Path) -> None:
    study = study_file(tmp_path / "small.yaml", priors=["fitted", {"isotropic": {"scale": 1e39}}])
    results = tmp_path / "results"
    folder = StudyFolder(results / "small")
    fitted = next(t for t in plan_study(load_grid(study)).trials if t.prior and t.prior.name == "fitted")
    stopped = failed(fitted, "stopped by a search of this name", {}).model_copy(update={"status": "stopped"})
    save_record(folder.record(fitted.id), stopped)
    code, output = here(study, results, ONE)
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
    code, output = here(study, results, ONE, "priors=[fitted]")
    assert code == 0, output
    assert "2 of 2 trials are finished already" in output
    assert written == {i: folder.record(i).stat().st_mtime_ns for i in finished}
    assert len(tracked(results)[1]) == 3


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_goes_on_without_loss_or_duplicates(
    tmp_path: Path, undisturbed: Undisturbed, number: signal.Signals
) -> None:
    """Ctrl-C, or what a batch system sends, in the middle of a trial.

    Every run of the suite stops a search in `test_ray_job` and kills a study in `test_object_store`.
    """
    training = {"steps": 200, "batch": 8, "checkpoint": 1}
    study = study_file(tmp_path / "small.yaml", priors=["fitted"], training=training)
    results = tmp_path / "results"
    folder = StudyFolder(results / "small")
    trained = next(spec.id for spec in plan_study(load_grid(study)).trials if spec.prior)
    checkpoint = folder.checkpoint(trained)
    process = start(study, results, ONE)
    wait_for(checkpoint.exists, process)
    stop(process, number)
    status = {row["trial"]: row["status"] for row in pq.read_table(folder.table).to_pylist()}
    assert len(status) == 2
    assert status[trained] == "pending"
    parent, runs = tracked(results)
    assert parent.info.status == runs[trained].info.status == "KILLED"
    # No worker goes on training behind the user's back.
    written = checkpoint.stat().st_mtime_ns
    time.sleep(2)
    assert checkpoint.stat().st_mtime_ns == written

    code, output = here(study, results, ONE)
    assert code == 0, output
    records = load_records(folder.records)
    assert len(records) == 2
    assert_as_undisturbed(folder, records, undisturbed)
    assert_tracked(results, records)
    assert tracked(results)[0].info.status == "FINISHED"


def test_a_study_that_is_running_is_not_run_twice(tmp_path: Path) -> None:
    study = study_file(tmp_path / "small.yaml")
    folder = StudyFolder(tmp_path / "results" / "small")
    folder.root.mkdir(parents=True)
    folder.table.touch()  # of a study that ran before, which does not start Ray until it is sure to need it
    with FileLock(folder.lock):
        code, output = here(study, tmp_path / "results", ONE)
    assert code == 2, output
    assert "another process is running in" in output
