"""Whole studies through Ray Tune: finishing, failing, being killed and going on, and being stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock
from mlflow import MlflowClient

from softprior.posteriors import load_posterior
from softprior.prompt import Place
from softprior.records import load_records, save_record
from softprior.results import StudyFolder
from softprior.specs import TrialSpec
from softprior.studies.plan import plan_study
from softprior.studies.table import SCHEMA
from softprior.studies.worker import failed
from softprior.study_files import load_study
from tests.builders import run, study_file

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    for process in STARTED:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    STARTED.clear()


def hear_ctrl_c() -> None:
    """A suite that runs in the background of a script has Ctrl-C switched off, and children inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(study: Path, results: Path, *overrides: str, **variables: str) -> subprocess.Popen[str]:
    """A study in a process (and process group) of its own, as a user starts it."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "PYTHONPATH")} | variables
    command = [sys.executable, "-m", "jobs.study", str(study), *overrides, "--results", str(results)]
    STARTED.append(
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=hear_ctrl_c,
        )
    )
    return STARTED[-1]


def wait_for_checkpoint(process: subprocess.Popen[str], folder: StudyFolder) -> None:
    deadline = time.monotonic() + 200
    while not list((folder.root / "checkpoints").glob("*.safetensors")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def trial_runs(results: Path, uri: str | None = None) -> dict[str, tuple[str, dict]]:
    """Status and metrics of MLflow's trial runs by trial id; fails on a second run of one trial."""
    client = MlflowClient(uri or f"sqlite:///{results}/mlflow.db")
    experiment = client.get_experiment_by_name("softprior/small")
    runs = client.search_runs([experiment.experiment_id])
    parents = [r for r in runs if "softprior.study" in r.data.tags]
    children = [r for r in runs if "softprior.trial" in r.data.tags]
    assert len(parents) == 1
    assert len(runs) == 1 + len(children)
    assert all(r.data.tags["mlflow.parentRunId"] == parents[0].info.run_id for r in children)
    ids = [r.data.tags["softprior.trial"] for r in children]
    assert len(ids) == len(set(ids))
    return {r.data.tags["softprior.trial"]: (r.info.status, r.data.metrics) for r in children}


def test_failed_trials_do_not_stop_the_others_and_nothing_runs_twice(tmp_path: Path) -> None:
    study = study_file(tmp_path / "small.yaml", priors=["fitted", {"isotropic": {"scale": 1e39}}])
    results = tmp_path / "results"
    folder = StudyFolder(results / "small")
    fitted = next(t for t in plan_study(load_study(study)).trials if t.prior and t.prior.name == "fitted")
    stopped = failed(fitted, "stopped by a search of this name", {}).model_copy(update={"status": "stopped"})
    save_record(folder.record(fitted.id), stopped)
    code, output = finish(start(study, results))
    assert code == 1, output
    records = load_records(folder.records)
    statuses = sorted((r.spec.prior.name if r.spec.prior else "", r.status) for r in records.values())
    assert statuses == [("", "finished"), ("fitted", "finished"), ("isotropic", "failed")]
    assert "Failed trials" in output
    assert "scale of the prior" in output
    assert "Traceback" not in output

    table = pq.read_table(folder.table)
    assert table.schema.equals(SCHEMA)
    rows = {row["trial"]: row for row in table.to_pylist()}
    baseline = next(row["test_loss"] for row in rows.values() if row["method"] == "none")
    assert all(row["baseline_loss"] == baseline for row in rows.values())
    finished = {i for i, r in records.items() if r.status == "finished"}
    trained = {i for i in finished if records[i].spec.prior}
    assert {p.stem for p in folder.figure("x").parent.glob("*.png")} == trained
    assert {p.stem for p in folder.posterior("x").parent.glob("*.safetensors")} == trained

    runs = trial_runs(results)
    assert {i: status for i, (status, _) in runs.items()} == {
        i: "FINISHED" if r.status == "finished" else "FAILED" for i, r in records.items()
    }
    for i in trained:
        assert runs[i][1]["test_loss"] == pytest.approx(records[i].test.loss)

    written = {i: folder.record(i).stat().st_mtime_ns for i in finished}
    code, output = finish(start(study, results, "priors=[fitted]"))
    assert code == 0, output
    assert "2 of 2 trials are finished already" in output
    assert written == {i: folder.record(i).stat().st_mtime_ns for i in finished}
    assert len(trial_runs(results)) == 3


def test_killed_and_repeated_it_completes_without_loss_or_duplicates(tmp_path: Path) -> None:
    # Long enough that the worker, which outlives the driver by a moment, cannot end before Ray stops it.
    training = {"steps": 400, "batch": 8, "checkpoint": 1}
    study = study_file(tmp_path / "small.yaml", priors=["fitted"], training=training)
    results = tmp_path / "results"
    folder = StudyFolder(results / "small")
    process = start(study, results)
    wait_for_checkpoint(process, folder)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = load_records(folder.records)
    assert all(record.spec.prior is None for record in before.values()), "the trial ended before the kill"

    code, output = finish(start(study, results))
    assert code == 0, output
    records = load_records(folder.records)
    assert {r.status for r in records.values()} == {"finished"}
    assert set(before) < set(records)
    trained = next(r for r in records.values() if r.spec.prior)
    assert [point.step for point in trained.steps] == list(range(1, 401))
    runs = trial_runs(results)
    assert {i: status for i, (status, _) in runs.items()} == dict.fromkeys(records, "FINISHED")
    client = MlflowClient(f"sqlite:///{results}/mlflow.db")
    history = client.get_metric_history(run_id(client, trained.id), "train_loss")
    assert sorted(metric.step for metric in history) == list(range(1, 401))

    undisturbed = run(TrialSpec.model_validate(trained.spec), tmp_path / "undisturbed")
    one = load_posterior(folder.posterior(trained.id)).final[Place(0)]
    two = load_posterior(StudyFolder(tmp_path / "undisturbed").posterior(trained.id)).final[Place(0)]
    assert torch.equal(one, two)
    assert undisturbed.test == trained.test


def run_id(client: MlflowClient, trial: str) -> str:
    experiment = client.get_experiment_by_name("softprior/small")
    (found,) = client.search_runs([experiment.experiment_id], f"tags.`softprior.trial` = '{trial}'")
    return str(found.info.run_id)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    study = study_file(tmp_path / "small.yaml", training={"steps": 100_000, "batch": 8, "checkpoint": 1})
    results = tmp_path / "results"
    folder = StudyFolder(results / "small")
    process = start(study, results)
    wait_for_checkpoint(process, folder)
    process.send_signal(number)
    code, output = finish(process)
    assert code == 128 + number, output
    assert "Traceback" not in output
    assert "***" not in output, "Ray's crash dump"
    assert "stopping; running trials go on" in output
    assert "go on with" in output
    table = pq.read_table(folder.table).to_pylist()
    assert len(table) == 3
    pending = {row["trial"] for row in table if row["status"] == "pending"}
    statuses = {trial: status for trial, (status, _) in trial_runs(results).items()}
    killed = {trial for trial, status in statuses.items() if status == "KILLED"}
    assert killed
    assert killed == pending & set(statuses)
    # No worker goes on training behind the user's back.
    checkpoint = next((folder.root / "checkpoints").glob("*.safetensors"))
    written = checkpoint.stat().st_mtime_ns
    time.sleep(2)
    assert checkpoint.stat().st_mtime_ns == written


def test_more_cpus_than_any_node_has_is_said_at_once(tmp_path: Path) -> None:
    study = study_file(tmp_path / "small.yaml")
    code, output = finish(start(study, tmp_path / "results", "resources.cpus=4096"))
    assert code == 2, output
    assert "error: a trial asks for 4096 CPUs" in output
    assert "Traceback" not in output


def test_a_study_that_is_running_is_not_run_twice(tmp_path: Path) -> None:
    study = study_file(tmp_path / "small.yaml")
    folder = StudyFolder(tmp_path / "results" / "small")
    folder.root.mkdir(parents=True)
    with FileLock(folder.lock):
        code, output = finish(start(study, tmp_path / "results"))
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
