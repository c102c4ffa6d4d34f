"""Studies run as a user runs them, and what must hold of them whatever was done meanwhile."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from jobs import study as command
from softprior.inputs.specs import TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.records import Record, load_record
from softprior.studies.plan import plan_study
from tests.builders import run
from tests.databases import empty_database
from tests.ray_head import ROOT
from tests.signals import hear_ctrl_c

STARTED: list[subprocess.Popen[str]] = []

ONE = "resources.concurrent=1"
"""For tests that gain nothing from a second worker, which would import torch and transformers once more."""

STATES = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
"""Of MLflow's runs, by the status of a record."""

Undisturbed = Callable[[TrialSpec], tuple[Record, Any]]
"""Record and final vectors of a trial that nobody disturbed."""


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    for process in STARTED:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    STARTED.clear()


def start(study: Path, results: Path | str, *overrides: str, **variables: str) -> subprocess.Popen[str]:
    """A study in a process (and process group) of its own, as a user starts it, where others ran before."""
    if "://" not in str(results):
        empty_database(Path(results))
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


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The status and the output of a study that ends by itself."""
    try:
        output, _ = process.communicate(timeout=280)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # a fixture's, which no other fixture ends
        raise
    return process.returncode, output


def here(study: Path, results: Path | str, *overrides: str) -> tuple[int, str]:
    """The status and the output of a study that runs in this process, which has imported all it needs."""
    if "://" not in str(results):
        empty_database(Path(results))
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.chdir(ROOT)
        status = command.main([str(study), *overrides, "--results", str(results)])
    return status, said.getvalue()


def stop(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Ends a study by Ctrl-C or SIGTERM, and checks that it ends in order and says how to go on."""
    process.send_signal(number)
    code, output = finish(process)
    assert code == 128 + number, output
    assert "Traceback" not in output
    assert "***" not in output, "Ray's crash dump"
    assert "stopping; running trials will continue" in output
    assert "continue with" in output


def kill(process: subprocess.Popen[str]) -> None:
    """Kills a study and everything it started, at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for(happened: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """What `happened` gives once it gives something, while the study runs."""
    deadline = time.monotonic() + 240
    while not (found := happened()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
    return found


def checkpoints(folder: StudyFolder) -> list[Any]:
    return list((folder.root / "checkpoints").glob("*.safetensors"))


def wait_for_checkpoint(process: subprocess.Popen[str], folder: StudyFolder) -> None:
    wait_for(lambda: checkpoints(folder), process)


def workers_of(process: int, file: Path) -> list[psutil.Process]:
    """The processes below one that have a file open."""
    found = []
    for child in psutil.Process(process).children(recursive=True):
        try:
            if any(opened.path == str(file) for opened in child.open_files()):
                found.append(child)
        except psutil.Error:
            continue  # it ended meanwhile
    return found


def planned(study: Path) -> dict[str, TrialSpec]:
    """The trials of a study by `method prior`."""
    return {
        f"{spec.method.name} {spec.prior.name if spec.prior else ''}".rstrip(): spec
        for spec in plan_study(load_grid(study)).trials
    }


def ends(output: str) -> list[str]:
    """Short ids of the trials that ended, in order."""
    return re.findall(r"^ *\d+/\d+  ([0-9a-f]+)  ", output, re.MULTILINE)


def written(folder: StudyFolder) -> dict[str, int]:
    """When the record of each trial was written, in nanoseconds."""
    return {path.stem: path.stat().st_mtime_ns for path in Path(folder.records).glob("*.json")}


def tracked(results: Path | str, uri: str | None = None) -> tuple[Run, dict[str, Run]]:
    """MLflow's run of the study and those of its trials by id; fails where one has a second."""
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
    return parents[0], dict(zip(ids, children, strict=True))


def assert_tracked(results: Path | str, records: dict[str, Record], uri: str | None = None) -> None:
    """That each trial has one run, which says how it ended and, if it finished, has each step once."""
    client = MlflowClient(uri or f"sqlite:///{results}/mlflow.db")
    _, runs = tracked(results, uri)
    assert {i: r.info.status for i, r in runs.items()} == {i: STATES[r.status] for i, r in records.items()}
    for i, record in records.items():
        if record.test is None:
            continue
        assert runs[i].data.metrics["test_loss"] == pytest.approx(record.test.loss)
        expected = dict.fromkeys(("train_loss", "train_gradient", "train_moved"), record.steps)
        for name, curve in (expected | {"validation_loss": record.validation}).items():
            sent = client.get_metric_history(runs[i].info.run_id, name)
            assert sorted(metric.step for metric in sent) == [point.step for point in curve], name


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Record and posterior of a trial that runs in this process, each made once."""
    folder = StudyFolder(tmp_path_factory.mktemp("undisturbed"))

    def of(spec: TrialSpec) -> tuple[Record, Any]:
        if not folder.record(spec.id).exists():
            assert torch.get_num_threads() == 1, "sums in another order are other numbers"
            run(spec, Path(folder.root))
        return load_record(folder.record(spec.id)), load_posterior(folder.posterior(spec.id)).final

    return of


def assert_as_undisturbed(folder: StudyFolder, records: dict[str, Record], undisturbed: Undisturbed) -> None:
    """That each trial finished as it does undisturbed, bit for bit, and left no checkpoint."""
    for record in records.values():
        assert record.status == "finished", record.error
        if record.spec.training is None:
            continue
        own, final = undisturbed(record.spec)
        assert [point.step for point in record.steps] == list(range(1, record.spec.training.steps + 1))
        assert record.steps == own.steps
        assert record.validation == own.validation
        assert record.test == own.test
        found = load_posterior(folder.posterior(record.id)).final
        assert set(found) == set(final)
        assert all(torch.equal(found[place], final[place]) for place in final)
        assert not folder.checkpoint(record.id).exists()


def assert_as_alone(shared: Record, root: Path) -> None:
    """That a trial on shared replicas has the losses of the same trial with a model of its own."""
    own = run(shared.spec, root)
    # Passes of several trials add in another order, and a few steps of AdamW make the most of it.
    finished = shared.status == "finished"
    for one, two in zip(own.steps, shared.steps, strict=finished):
        assert two.loss == pytest.approx(one.loss, rel=1e-3)
    if finished:
        assert own.test is not None
        assert shared.test is not None
        assert shared.test.loss == pytest.approx(own.test.loss, rel=1e-3)
