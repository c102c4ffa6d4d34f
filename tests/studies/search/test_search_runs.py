"""Searches through Ray Tune: killed and resumed, stopped early, failing, and opened in Optuna's dashboard."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from optuna import Study, load_study
from optuna.trial import TrialState

from jobs import study as command
from softprior.results import lease
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.records import Record, load_records
from softprior.results.storage import location
from softprior.studies.replicas import replicas
from softprior.studies.search.storage import REASON, TRIALS, read_search
from tests.builders import SUMS, study_file
from tests.object_store import bucket
from tests.ray_head import ROOT
from tests.studies.runs import (
    ONE,
    STARTED,
    assert_as_alone,
    assert_tracked,
    checkpoints,
    here,
    kill,
    nothing_is_left_running,
    start,
    stop,
    tracked,
    wait_for,
)
from tests.tracking_server import Server, server

__all__ = ["bucket", "nothing_is_left_running", "server"]  # fixtures

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

PROPOSALS = 11
SEARCH: dict[str, Any] = {
    "priors": [{"isotropic": {"scale": {"search": {"low": 0.001, "high": 1.0, "log": True}}}}, "fitted"],
    "rates": [{"search": {"low": 0.001, "high": 0.3, "log": True}}],
    "training": {"steps": 12, "batch": 8, "checkpoint": 1, "curve": 6},
    "evaluation": {"examples": 10, "generate": 0, "context_shuffle": False},
    "search": {"trials": PROPOSALS, "early_stopping": {"asha": {"grace": 2, "reduction": 2}}},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a whole search, and what it printed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    code, output = here(study_file(folder / "small.yaml", **SEARCH), folder / "results", ONE)
    assert code == 0, output
    return folder / "results" / "small", output


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[Any]]:
    """The folder of a search whose trials use one copy of the model, what it printed, what the copy did."""
    import ray

    folder, served = tmp_path_factory.mktemp("shared"), []

    @contextmanager
    def watched(*given: Any) -> Iterator[Any]:
        with replicas(*given) as found:
            yield found
            served.extend(ray.get([replica.served.remote() for replica in found.host._replicas]))

    changes = SEARCH | {
        "placement": {"hosts": "shared", "cpus": 1},
        "search": SEARCH["search"] | {"concurrent": 2},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("softprior.studies.runner.replicas", watched)
        code, output = here(study_file(folder / "small.yaml", **changes), folder / "results", ONE)
    assert code == 0, output
    return folder / "results" / "small", output, served


def history(study: Study) -> list[tuple]:
    return [(t.state, t.params, t.values, t.intermediate_values) for t in study.get_trials()]


def records(folder: Path) -> dict[str, Record]:
    return load_records(StudyFolder(folder).records)


def wait_for_the_middle(process: subprocess.Popen[str], folder: StudyFolder) -> None:
    """Waits for some records, and for a trial to be under way."""
    wait_for(lambda: len(list(folder.records.glob("*.json"))) >= 5 and checkpoints(folder), process)


def assert_in_the_middle(search: Study) -> None:
    states = [t.state for t in search.get_trials()]
    assert 3 < len(states) < PROPOSALS
    assert TrialState.RUNNING in states


def assert_same_search(search: Study, folder: StudyFolder, whole: Path) -> None:
    """That proposals, their ends, curves, tests and final vectors are those of another search."""
    assert history(search) == history(read_search(whole))
    ended, own = load_records(folder.records), records(whole)
    assert set(ended) == set(own)
    for i, record in ended.items():
        for field in ("status", "steps", "validation", "test"):
            assert getattr(record, field) == getattr(own[i], field)
        if record.status == "finished" and record.steps:
            one, two = (load_posterior(of.posterior(i)).final for of in (folder, StudyFolder(whole)))
            assert set(one) == set(two)
            assert all(torch.equal(one[place], two[place]) for place in one)


def test_a_search_leaves_points_records_figures_and_runs(shared: tuple[Path, str, list[Any]]) -> None:
    folder, output, _ = shared
    trials = read_search(folder).get_trials()
    assert len(trials) == PROPOSALS
    states = {t.state for t in trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    found = records(folder)
    for trial in trials:
        (record,) = [found[i] for i in trial.user_attrs[TRIALS]]
        assert trial.values == [record.validation[-1].loss]
        assert record.status == ("finished" if trial.state == TrialState.COMPLETE else "stopped")
        curve = {score.step: score.loss for score in record.validation if score.step}
        assert trial.intermediate_values == curve
        assert [point.step for point in record.steps] == list(range(1, record.validation[-1].step + 1))
        if record.prior and record.spec.prior and record.spec.prior.name == "isotropic":
            assert record.spec.prior.params["scale"] == trial.params["priors.isotropic.scale"]
    for name in ("history.png", "slices.png", "importances.png"):
        assert (folder / "search" / name).stat().st_size > 5000
    copied = load_study(study_name="small", storage=f"sqlite:///{folder}/search/optuna.db")
    assert history(copied) == history(read_search(folder))
    summary = json.loads((folder / "search" / "summary.json").read_text())
    best = min((t for t in trials if t.state == TrialState.COMPLETE), key=lambda t: t.values[0])
    assert summary["best"][0] == best.number
    assert "lowest validation loss" in output
    assert "Traceback" not in output
    assert_tracked(folder.parent, found)
    parent, _ = tracked(folder.parent)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["lowest_validation_loss"] == best.values[0]
    client = MlflowClient(f"sqlite:///{folder.parent}/mlflow.db")
    files = {a.path for a in client.list_artifacts(parent.info.run_id, "search")}
    assert {"search/history.png", "search/summary.json"} <= files


def test_trials_on_one_copy_of_the_model_have_the_losses_they_have_alone(
    shared: tuple[Path, str, list[Any]], tmp_path: Path
) -> None:
    """How trials choose among several copies is in tests/models/test_hosted.py."""
    folder, _, served = shared
    found = records(folder)
    stopped = [record for record in found.values() if record.status == "stopped"]
    finished = [record for record in found.values() if record.status == "finished"]
    assert len(finished) >= 3
    assert stopped
    for record in (*finished[:4], *stopped[:2]):
        assert_as_alone(record, tmp_path)
    assert len(served) == 1
    assert sum(one.calls for one in served) > sum(len(record.steps) for record in found.values())


@pytest.mark.faults  # tests/jobs/test_ray_job.py stops and resumes a search in every run of the suite
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_and_resumed_it_is_the_undisturbed_search(
    undisturbed: tuple[Path, str], tmp_path: Path, number: signal.Signals
) -> None:
    results = tmp_path / "results"
    folder = StudyFolder(results / "small")
    study = study_file(tmp_path / "small.yaml", **SEARCH)
    process = start(study, results, ONE)
    wait_for_the_middle(process, folder)
    if number == signal.SIGKILL:
        kill(process)
        assert_in_the_middle(read_search(results / "small"))
    else:
        stop(process, number)
        parent, runs = tracked(results)
        assert parent.info.status == "KILLED"
        assert "KILLED" in {run.info.status for run in runs.values()}
        written = {path: path.stat().st_mtime_ns for path in checkpoints(folder)}
        assert written
        time.sleep(2)
        now = {path: path.stat().st_mtime_ns for path in checkpoints(folder)}
        assert now == written, "a worker goes on training behind the user's back"
    before = load_records(folder.records)

    code, output = here(study, results, ONE)
    assert code == 0, output
    assert_same_search(read_search(results / "small"), folder, undisturbed[0])
    ended = load_records(folder.records)
    assert all(ended[i] == record for i, record in before.items()), "a finished trial ran again"
    assert_tracked(results, ended)
    assert tracked(results)[0].info.status == "FINISHED"

    assert here(study, results)[0] == 0, "with nothing left to do"
    assert_same_search(read_search(results / "small"), folder, undisturbed[0])


@pytest.mark.faults
def test_killed_and_resumed_with_results_in_a_bucket_it_is_the_undisturbed_search(
    undisturbed: tuple[Path, str],
    bucket: str,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database, results = f"sqlite:///{tmp_path}/optuna.db", f"{bucket}/results"
    search = SEARCH["search"] | {"storage": database}
    changes = SEARCH | {"search": search, "tracking": {"uri": server.uri}}
    study = study_file(tmp_path / "small.yaml", **changes)
    folder = StudyFolder(location(f"{results}/small"))
    process = start(study, results, ONE)
    wait_for_the_middle(process, folder)
    kill(process)
    before = load_records(folder.records)
    assert_in_the_middle(load_study(study_name="small", storage=database))
    assert folder.lock.exists()

    monkeypatch.setattr(lease, "STALE", 1.0)
    monkeypatch.setattr(lease, "SETTLED", 0.1)
    monkeypatch.chdir(ROOT)
    assert command.main([str(study), "--results", results]) == 0, capsys.readouterr()
    assert f"results   {results}/small" in capsys.readouterr().out
    assert_same_search(load_study(study_name="small", storage=database), folder, undisturbed[0])
    ended = load_records(folder.records)
    assert all(ended[i] == record for i, record in before.items()), "a finished trial ran again"
    assert_tracked(results, ended, server.uri)
    parent, _ = tracked(results, server.uri)
    assert parent.info.status == "FINISHED"
    files = {a.path for a in MlflowClient(server.uri).list_artifacts(parent.info.run_id, "search")}
    assert {"search/history.png", "search/summary.json"} <= files
    assert not folder.lock.exists()
    assert not folder.journal.exists()
    assert not (ROOT / "s3:").exists()


@pytest.mark.faults  # test_ray_job has a scale that overflows, and test_proposals what samplers are told
def test_what_is_not_a_number_is_told_as_a_failure_with_its_reason(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "priors": [{"isotropic": {"scale": {"search": {"choices": [0.02, 0.05, 1e39]}}}}],
        "rates": [0.05],
        "seeds": [0, 1],
        "training": {"steps": 4, "batch": 8, "checkpoint": 4},
        "search": {
            "trials": 6,
            "sampler": "random",
            "concurrent": 2,
            "objective": ["validation_loss", "distance_moved", {"steps_to": {"loss": 0.001}}],
            "storage": f"sqlite:///{tmp_path}/optuna.db",
        },
    }
    study = study_file(tmp_path / "small.yaml", **{**SEARCH, **changes})
    code, output = here(study, tmp_path / "results", ONE)
    assert code == 1, output
    assert "Traceback" not in output
    folder = tmp_path / "results" / "small"
    trials = read_search(folder).get_trials()
    states = {t.state for t in trials}
    assert states == {TrialState.COMPLETE, TrialState.FAIL}
    found = records(folder)
    for trial in trials:
        own = [found[i] for i in trial.user_attrs[TRIALS]]
        assert {record.spec.seed for record in own} == {0, 1}
        if trial.state == TrialState.FAIL:
            assert trial.params["priors.isotropic.scale"] == 1e39
            assert "scale of the prior" in trial.user_attrs[REASON]
            continue
        loss, moved, steps = trial.values
        assert loss == pytest.approx(sum(r.validation[-1].loss for r in own) / 2)
        assert moved == pytest.approx(sum(next(iter(r.geometry.values())).moved for r in own) / 2)
        assert steps == 5
    assert len({t.params["priors.isotropic.scale"] for t in trials}) < len(trials), (
        "nothing was proposed twice"
    )
    assert len(found) == 1 + 2 * len({t.params["priors.isotropic.scale"] for t in trials})
    assert (folder / "search" / "front.png").exists()


def test_the_search_opens_in_optunas_dashboard(shared: tuple[Path, str, list[Any]]) -> None:
    journal = StudyFolder(shared[0]).journal
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dashboard = str(Path(sys.executable).parent / "optuna-dashboard")
    process = subprocess.Popen(
        [dashboard, str(journal), "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    STARTED.append(process)
    try:
        (study,) = ask(process, f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        assert study["study_name"] == "small"
        detail = ask(process, f"http://127.0.0.1:{port}/api/studies/{study['study_id']}")
        assert len(detail["trials"]) == PROPOSALS
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)


def ask(process: subprocess.Popen[str], address: str) -> Any:
    """The server's answer, once it is up."""
    deadline = time.monotonic() + 100
    while True:
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return json.load(answer)
        except OSError:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.faults
def test_the_example_over_all_priors_runs_on_the_shipped_model(tmp_path: Path) -> None:
    overrides = ["model=tiny", "search.trials=4", "search.early_stopping=null", "training.steps=2"]
    overrides += ["training.curve=1", "evaluation.examples=8", "resources.cpus=1", "search.sampler=random"]
    overrides += [
        f"tasks={json.dumps([{'arithmetic': SUMS}])}",
        "priors.7.vae.steps=5",
        "methods.1.deep.last=1",
    ]
    study = ROOT / "jobs" / "studies" / "search_priors.yaml"
    code, output = here(study, tmp_path / "results", ONE, *overrides)
    assert code == 0, output
    trials = read_search(tmp_path / "results" / "search-priors").get_trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 4
