"""The tracker against a real MLflow database and a real server that comes late."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from softprior.inputs.entries import Entry
from softprior.inputs.labels import labels
from softprior.inputs.specs import REPEATS, StudySpec, TrialSpec
from softprior.regularisers.domain import TowardsDomain
from softprior.results.folder import StudyFolder
from softprior.results.probed import Probed, Removal
from softprior.results.records import Record, Score, StepPoint, TaskScore
from softprior.studies.table import write_study
from softprior.tracking import clock, mlflow_tracker
from softprior.tracking.client import (
    ARTIFACTS,
    default_uri,
    follow_artifacts,
    make_database,
    open_experiment,
)
from softprior.tracking.contents import parameters
from softprior.tracking.mlflow_private import KIND, TRAINING, VIEW, page
from softprior.tracking.mlflow_tracker import MlflowTracker
from softprior.tracking.runs import KEY, log_run
from softprior.tracking.studies import PARENT
from softprior.tracking.view import KEY as KEY_OF_VIEW
from softprior.training.events import Phase, Step
from tests.builders import Finished, run, trial
from tests.tracking_server import Server


@pytest.fixture
def ended(
    finished_study: Finished,
) -> tuple[StudySpec, tuple[TrialSpec, ...], StudyFolder, dict[str, Record]]:
    """A study whose trials have all run, without Ray."""
    _, plan, folder, records = finished_study
    return plan.study, plan.trials, folder, records


def steps(client: MlflowClient, run_id: str, name: str) -> list[int]:
    return [metric.step for metric in client.get_metric_history(run_id, name)]


@pytest.mark.usefixtures("jumping_clock")
def test_points_records_and_repeats_give_one_run_and_each_point_once(
    finished_study: Finished, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the clock says: it jumps all the time, and is a day behind for the second driver."""
    study, trials = finished_study.plan.study, finished_study.plan.trials
    folder, records = finished_study.copy(tmp_path), finished_study.records
    trained = next(t for t in trials if t.prior)
    record = records[trained.id]
    points = [Step(point, len(record.steps)) for point in record.steps]

    drawn = folder.figure(trained.id).rename(tmp_path / "drawn later.png")

    first = MlflowTracker(uri, study, trials, folder)
    first.progress(trained, [Phase(0, "loading"), *points[:4]])
    first.close({})  # the driver stops here
    assert set(statuses(uri).values()) == {"KILLED"}
    monkeypatch.setattr(clock, "_BEGAN", clock._BEGAN - 86_400)
    second = MlflowTracker(uri, study, trials, folder)
    second.progress(trained, points[2:5])  # the resumed trial repeats two steps
    second.ended(record)
    drawn.rename(folder.figure(trained.id))
    second.close(records)
    assert second.problem is None
    third = MlflowTracker(uri, study, trials, folder)
    third.close(records)

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("softprior/small")
    runs = {
        r.data.tags.get("softprior.trial", "study"): r for r in client.search_runs([experiment.experiment_id])
    }
    assert set(runs) == {"study", *records}
    assert {r.info.status for r in runs.values()} == {"FINISHED"}
    assert all(0 <= r.info.end_time - r.info.start_time < 3_600_000 for r in runs.values())
    mine = runs[trained.id]
    # MLflow has a history in the order of its times; its pages and `metrics` go by steps.
    assert sorted(steps(client, mine.info.run_id, "train_loss")) == list(range(1, 7))
    validated = sorted(steps(client, mine.info.run_id, "validation_loss"))
    assert validated == [score.step for score in record.validation]
    assert mine.data.metrics["train_loss"] == pytest.approx(record.steps[-1].loss)
    assert mine.data.metrics["test_loss"] == pytest.approx(record.test.loss)
    assert mine.data.params["prior"] == trained.prior.name
    assert mine.data.params["rate"] == "0.05"
    assert mine.data.params["method.tokens"] == "4"
    assert mine.data.params["method.placement"] == "front"  # the default, which ids leave out
    behind = Entry(name="soft", params={"placement": "after_bos"})
    assert parameters(trained.model_copy(update={"method": behind}))["method.placement"] == "after_bos"
    assert mine.data.tags["model_fingerprint"] == trained.model_fingerprint
    figure = f"{trained.id}.png"
    sent = {f"{trained.id}.safetensors", figure}
    assert {f.path for f in client.list_artifacts(mine.info.run_id)} >= sent
    local = Path(client.download_artifacts(mine.info.run_id, figure))
    local.unlink()  # a driver that is killed leaves the study's run as it is, without the last figures
    client.update_run(runs["study"].info.run_id, status="RUNNING")
    MlflowTracker(uri, study, trials, folder).close(records)
    assert {f.path for f in client.list_artifacts(mine.info.run_id)} >= sent


def test_what_stands_once_is_at_step_0_and_places_are_means(repeated_study: Finished, uri: str) -> None:
    _, plan, folder, records = repeated_study
    trials = plan.trials
    tracker = MlflowTracker(uri, plan.study, trials, folder)
    tracker.close(records)
    trained = next(t for t in trials if t.prior)
    record, run = records[trained.id], named_runs(uri)[trained.id]
    (place,) = record.geometry.values()
    assert run.data.metrics["moved_over_reach"] == pytest.approx(place.moved_over_reach)
    assert run.data.metrics["final_radius_quantile"] == pytest.approx(place.final_radius)
    assert not [name for name in run.data.metrics if "/" in name]
    for name in ("test_loss", "test_exact_match", "untrained_loss", "moved"):
        assert steps(MlflowClient(uri), run.info.run_id, name) == [0], name
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("softprior/small")
    assert tracker.page == page(experiment.experiment_id, KEY_OF_VIEW)
    assert experiment.tags[KIND] == TRAINING
    state = json.loads(json.loads(experiment.tags[VIEW + KEY_OF_VIEW])["state"])
    found = client.search_runs(
        [experiment.experiment_id], state["searchFilter"], order_by=[f"{state['orderByKey']} ASC"]
    )
    ordered = sorted(records.values(), key=lambda record: record.test.loss)
    assert [run.data.tags["softprior.trial"] for run in found] == [record.id for record in ordered]
    # Repeated trials share their parameters with their originals; tags and names tell them apart.
    tags = {run.data.tags["softprior.trial"]: _repeats(run.data.tags) for run in found}
    assert tags == {one.id: {one.repeat: one.original} if one.repeat else {} for one in trials}
    assert {run.data.tags["softprior.trial"]: run.info.run_name for run in found} == labels(trials)
    models = client.search_logged_models([experiment.experiment_id])
    own = {model.tags["softprior.trial"]: _repeats(model.tags) for model in models}
    assert own == {i: tags[i] for i in own}
    assert set(own) == {one.id for one in trials if one.seed is not None}


def _repeats(tags: dict[str, str]) -> dict[str, str]:
    """The originals that tags name, by kind of repetition."""
    return {kind: tags[f"softprior.{kind}"] for kind in REPEATS if f"softprior.{kind}" in tags}


def test_posteriors_are_found_by_prior_and_loss(ended, uri: str) -> None:
    study, trials, folder, records = ended
    for _ in range(2):
        MlflowTracker(uri, study, trials, folder).close(records)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("softprior/small").experiment_id
    assert len(client.search_logged_models([experiment])) == sum(t.prior is not None for t in trials)
    fitted = next(t for t in trials if t.prior and t.prior.name == "fitted")
    loss = records[fitted.id].test.loss
    for most, expected in ((loss + 1e-3, [fitted.id]), (loss - 1e-3, [])):
        found = client.search_logged_models(
            [experiment], f"params.prior = 'fitted' AND metrics.test_loss < {most}"
        )
        assert [model.tags["softprior.trial"] for model in found] == expected
    (model,) = client.search_logged_models([experiment], "params.prior = 'fitted'")
    run, _, path = model.tags["softprior.file"].removeprefix("runs:/").partition("/")
    assert run == model.source_run_id == named_runs(uri)[fitted.id].info.run_id
    assert path in {file.path for file in client.list_artifacts(run)}
    assert model.status == LoggedModelStatus.READY


def test_sending_everything_twice_changes_nothing(ended, uri: str) -> None:
    study, trials, folder, records = ended
    MlflowTracker(uri, study, trials, folder).close(records)
    MlflowTracker(uri, study, trials, folder).close(records)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("softprior/small")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + len(records)
    trained = next(t for t in trials if t.prior)
    mine = next(r for r in runs if r.data.tags.get("softprior.trial") == trained.id)
    assert steps(client, mine.info.run_id, "train_loss") == list(range(1, 7))


def waiting(begin: threading.Event, work: Callable[[MlflowTracker], None]) -> Callable[[MlflowTracker], None]:
    def wait_and_work(tracker: MlflowTracker) -> None:
        begin.wait()
        work(tracker)

    return wait_and_work


def test_a_user_who_waits_is_told_for_what(ended, uri: str, monkeypatch, capsys) -> None:
    study, trials, folder, records = ended
    monkeypatch.setattr(mlflow_tracker, "SILENT", 0)
    monkeypatch.setattr(mlflow_tracker, "SAID", 0.01)
    begin = threading.Event()
    monkeypatch.setattr(MlflowTracker, "_work", waiting(begin, MlflowTracker._work))
    tracker = MlflowTracker(uri, study, trials, folder)
    for record in records.values():
        tracker.ended(record)
    threading.Timer(0.1, begin.set).start()
    tracker.close(records)
    assert tracker.problem is None
    said = capsys.readouterr().err
    assert f"MLflow has 0 of {len(records)} trials; sending the others" in said
    assert "sending the last figures and tables to MLflow" in said


def test_a_run_of_another_job_of_the_same_name_is_left_alone(ended, tmp_path: Path, uri: str) -> None:
    study, trials, folder, records = ended
    assert log_run(uri, tmp_path, study.name, "abc", {}, {}, {}, [], whole=True) is None
    for _ in range(2):
        MlflowTracker(uri, study, trials, folder).close(records)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(f"softprior/{study.name}")
    (other,) = client.search_runs([experiment.experiment_id], f"tags.`{KEY}` = 'abc'")
    (parent,) = client.search_runs([experiment.experiment_id], f"tags.`{PARENT}` = '{study.name}'")
    assert "model_fingerprint" in parent.data.tags
    assert "model_fingerprint" not in other.data.tags
    assert len(client.search_runs([experiment.experiment_id])) == 2 + len(records)


def statuses(uri: str) -> dict[str, str]:
    """Of every run by its name."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("softprior/small")
    return {r.info.run_name: r.info.status for r in client.search_runs([experiment.experiment_id])}


def test_an_interrupted_trial_is_killed_then_runs_then_finishes(ended, uri: str) -> None:
    study, trials, folder, records = ended
    trained = next(t for t in trials if t.prior)
    label = labels(trials)[trained.id]
    others = {i: record for i, record in records.items() if i != trained.id}

    first = MlflowTracker(uri, study, trials, folder)
    first.progress(trained, [Step(StepPoint(step=1, loss=1.0, rate=0.1, gradient=1.0, moved=0.1), 6)])
    first.close(others)
    assert statuses(uri)[label] == "KILLED"
    assert statuses(uri)["small"] == "KILLED"
    again = MlflowTracker(uri, study, trials, folder)
    again.progress(trained, [Step(StepPoint(step=2, loss=1.0, rate=0.1, gradient=1.0, moved=0.1), 6)])
    deadline = time.monotonic() + 60
    while statuses(uri)[label] != "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    again.ended(records[trained.id])
    again.close(records)
    assert statuses(uri) == dict.fromkeys(["small", *labels(trials).values()], "FINISHED")
    failed_one = records[trained.id].model_copy(update={"status": "failed", "error": "step 1: no"})
    MlflowTracker(uri, study, trials, folder).close(others | {trained.id: failed_one})
    assert statuses(uri)[label] == "FAILED"
    assert statuses(uri)["small"] == "FAILED"


def test_two_regularisers_of_one_name_have_parameters_and_metrics_of_one_name_each(
    finished_study: Finished, tmp_path: Path, uri: str
) -> None:
    study = finished_study.plan.study
    spec = trial(regularisers=[TowardsDomain(), TowardsDomain(direction="away", weight=0.5)], steps=1)
    folder = StudyFolder(tmp_path / "results" / "small")
    record = run(spec, folder.root)
    write_study(folder, finished_study.plan.spec, (spec,))
    tracker = MlflowTracker(uri, study, (spec,), folder)
    tracker.close({spec.id: record})
    assert tracker.problem is None
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("softprior/small")
    (mine,) = client.search_runs([experiment.experiment_id], f"tags.`softprior.trial` = '{spec.id}'")
    for term, entry in zip(("domain", "domain-2"), spec.regularisers, strict=True):
        assert mine.data.params[f"regulariser.{term}.weight"] == str(entry.params["weight"])
        assert mine.data.params[f"regulariser.{term}.direction"] == entry.params["direction"]
        assert f"train_penalty_{term}" in mine.data.metrics
    away = next(i for i, e in enumerate(spec.regularisers) if e.params["direction"] == "away")
    value = mine.data.metrics[f"train_penalty_{('domain', 'domain-2')[away]}"]
    assert value == pytest.approx(list(record.steps[0].penalties.values())[away])


def test_a_run_is_renamed_when_its_study_grows(ended, uri: str) -> None:
    study, trials, folder, records = ended
    trained = next(t for t in trials if t.prior and t.prior.name == "isotropic")
    MlflowTracker(uri, study, trials, folder).close(records)
    wider = trained.model_copy(
        update={"method": Entry(name="soft", params={**trained.method.params, "tokens": 5})}
    )
    MlflowTracker(uri, study, (*trials, wider), folder).close(records)
    names = set(statuses(uri))
    assert {"small", *labels((*trials, wider)).values()} - names == {labels((*trials, wider))[wider.id]}
    assert any("soft(tokens=4)" in name for name in names)


def test_scores_on_other_tasks_and_probes_that_were_added_later_are_sent(ended, uri: str) -> None:
    """MLflow was away while finished trials were measured on another task and then probed."""
    study, trials, folder, records = ended
    MlflowTracker(uri, study, trials, folder).close(records)
    score = Score(step=6, loss=1.5, accuracy=0.5, examples=1, tokens=1)
    other = TaskScore(task=Entry(name="squad"), fingerprint="f", score=score, sources="s")
    more = {i: record.model_copy(update={"also": (other,)}) for i, record in records.items()}
    for _ in range(2):
        MlflowTracker(uri, study, trials, folder).close(more)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("softprior/small")
    runs = client.search_runs([experiment.experiment_id], "tags.`softprior.trial` != ''")
    assert [run.data.metrics["also_squad_loss"] for run in runs] == [1.5] * len(trials)
    removal = Removal(
        removed=1, loss=1, near=2, far=4, random=3, random_draws=(3,), near_untrained=5, far_untrained=6
    )
    probed = Probed(probe="removal", found=removal, sources="s")
    more = {i: record.model_copy(update={"probes": (probed,)}) for i, record in more.items()}
    for _ in range(2):
        MlflowTracker(uri, study, trials, folder).close(more)
    runs = client.search_runs([experiment.experiment_id], "tags.`softprior.trial` != ''")
    assert [run.data.metrics["removal_far"] for run in runs] == [4] * len(trials)
    for name in ("also_squad_loss", "removal_far", "test_loss"):
        assert [steps(client, run.info.run_id, name) for run in runs] == [[0]] * len(trials), "once each"


def test_a_server_that_is_away_is_said_and_gets_everything_later(ended, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    study, trials, folder, records = ended
    server = Server(tmp_path)
    uri = server.uri
    away = MlflowTracker(uri, study, trials, folder)
    away.progress(trials[-1], [Step(StepPoint(step=1, loss=1.0, rate=0.1, gradient=1.0, moved=0.1), 6)])
    away.close(records)
    assert away.problem

    server.start()
    try:
        server.wait()
        back = MlflowTracker(uri, study, trials, folder)
        back.close(records)
        assert back.problem is None
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("softprior/small")
        runs = client.search_runs([experiment.experiment_id])
        assert len(runs) == 1 + len(records)
        assert {r.info.status for r in runs} == {"FINISHED"}
    finally:
        server.kill()


@pytest.mark.faults
def test_a_database_killed_in_the_making_is_made_again(tmp_path: Path) -> None:
    """Killed at its first tables; the file that MLflow makes by itself could never be opened again."""
    uri, artifacts = default_uri(tmp_path), tmp_path / "artifacts"
    code = (
        "import sys; from pathlib import Path\n"
        "from softprior.tracking.client import make_database\n"
        "make_database(sys.argv[1], Path(sys.argv[2]))\n"
    )
    maker = subprocess.Popen([sys.executable, "-c", code, uri, str(artifacts)])
    while not any(path.stat().st_size for path in tmp_path.glob(".mlflow.db.*.part")):
        assert maker.poll() is None, "it was made before it could be killed"
        time.sleep(0.001)
    maker.kill()
    maker.wait()
    assert not (tmp_path / "mlflow.db").exists()
    make_database(uri, artifacts)
    client = MlflowClient(uri)
    experiment = client.create_experiment("one")
    before = (tmp_path / "mlflow.db").stat().st_ino
    make_database(uri, artifacts)
    assert (tmp_path / "mlflow.db").stat().st_ino == before, "one that is there is left alone"
    assert client.get_experiment(experiment).name == "one"


def named_runs(uri: str) -> dict[str, Any]:
    """MLflow's active runs by trial id, the study's own as `study`."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("softprior/small")
    runs = client.search_runs([experiment.experiment_id])
    found = {run.data.tags.get("softprior.trial", "study"): run for run in runs}
    assert len(found) == len(runs)
    return found


def test_a_results_folder_of_any_name_keeps_its_artifacts_wherever_it_goes(
    finished_study: Finished, tmp_path: Path
) -> None:
    _, plan, _, records = finished_study
    root = tmp_path / "100%25 a?b é#&"
    folder = finished_study.copy(root)
    trained = next(trial.id for trial in plan.trials if trial.prior)

    def send(results: Path) -> MlflowTracker:
        tracker = MlflowTracker(default_uri(results), plan.study, plan.trials, StudyFolder(results / "small"))
        tracker.close(records)
        assert tracker.problem is None
        return tracker

    assert send(root / "results").notes == ()
    assert [path.name for path in tmp_path.iterdir()] == [root.name], "nothing beside it"
    assert (root / "results" / "mlflow.db").exists()
    moved = root.rename(tmp_path / "moved") / "results"
    client = MlflowClient(default_uri(moved))
    client.delete_run(named_runs(default_uri(moved))[trained].info.run_id)  # whose artifacts are sent anew
    _artifact_repos_cache.clear()  # as in another process
    tracker = send(moved)
    assert tracker.notes == (
        f"MLflow's artifacts were in {folder.root.parent / 'mlflow-artifacts'} and are now in "
        f"{moved / 'mlflow-artifacts'}",
    )
    assert not root.exists()
    for name, found in named_runs(default_uri(moved)).items():
        files = {file.path for file in client.list_artifacts(found.info.run_id)}
        assert {"study.json"} <= files if name == "study" else {f"{name}.json"} <= files, name
    assert send(moved).notes == ()


def test_a_database_that_two_results_folders_use_keeps_the_artifacts_of_both(tmp_path: Path) -> None:
    a, b, copied = tmp_path / "a", tmp_path / "b", tmp_path / "copied"
    client = open_experiment(default_uri(a), "of a", a).client
    opened = [open_experiment(default_uri(a), f"of {folder.name}", folder) for folder in (a, b)]
    runs = [client.create_run(connection.experiment) for connection in opened]
    for made in runs:
        client.log_text(made.info.run_id, "text", "file.txt")
    addresses = [made.info.artifact_uri for made in runs]
    assert follow_artifacts(a) == []
    assert [client.get_run(made.info.run_id).info.artifact_uri for made in runs] == addresses
    assert addresses[1].startswith(b.as_uri())

    shutil.copytree(a, copied)  # the old place is still there
    assert follow_artifacts(copied) == [
        f"MLflow's artifacts were in {a / ARTIFACTS} and are now in {copied / ARTIFACTS}"
    ]
    there = MlflowClient(default_uri(copied))
    found = [there.get_run(made.info.run_id).info.artifact_uri for made in runs]
    assert found == [addresses[0].replace(a.as_uri(), copied.as_uri()), addresses[1]]


def test_a_deleted_experiment_is_restored(ended, uri: str) -> None:
    study, trials, folder, records = ended
    MlflowTracker(uri, study, trials, folder).close(records)
    client = MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("softprior/small").experiment_id)
    back = MlflowTracker(uri, study, trials, folder)
    back.close(records)
    assert back.problem is None
    assert back.notes == ("the experiment softprior/small had been deleted in MLflow and has been restored",)
    assert set(named_runs(uri)) == {"study", *records}


def test_trials_of_a_deleted_study_run_go_below_the_new_one(ended, uri: str) -> None:
    study, trials, folder, records = ended
    MlflowTracker(uri, study, trials, folder).close(records)
    MlflowClient(uri).delete_run(named_runs(uri)["study"].info.run_id)
    MlflowTracker(uri, study, trials, folder).close(records)
    runs = named_runs(uri)
    parent = runs.pop("study").info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent}


def test_numbers_of_other_code_get_a_run_of_their_own(ended, uri: str) -> None:
    """As after `--again`: points come for a trial that had finished, then a record with other numbers."""
    study, trials, folder, records = ended
    trained = next(t for t in trials if t.prior)
    record = records[trained.id]
    made = {"sources": "0" * 16, "commit": "f" * 40}
    old = record.model_copy(update={"environment": record.environment | made})
    MlflowTracker(uri, study, trials, folder).close(records | {trained.id: old})
    before = named_runs(uri)
    assert before[trained.id].data.tags["sources"] == "0" * 16
    assert before[trained.id].data.tags["commit"] == "f" * 40
    steps = tuple(replace(point, loss=point.loss + 1) for point in record.steps)
    new = record.model_copy(update={"steps": steps})
    tracker = MlflowTracker(uri, study, trials, folder)
    tracker.progress(trained, [Step(point, len(steps)) for point in steps[:3]])
    tracker.ended(new)
    tracker.close(records | {trained.id: new})
    assert tracker.problem is None
    after = named_runs(uri)
    same = {name for name in after if after[name].info.run_id == before[name].info.run_id}
    assert same == set(after) - {trained.id}
    history = MlflowClient(uri).get_metric_history(after[trained.id].info.run_id, "train_loss")
    assert [point.value for point in history] == pytest.approx([point.loss for point in steps])
    assert after[trained.id].data.tags["sources"] == record.environment["sources"]
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("softprior/small").experiment_id
    models = client.search_logged_models([experiment], f"params.prior = '{trained.prior.name}'")
    assert [model.source_run_id for model in models] == [after[trained.id].info.run_id]


def test_a_password_in_the_address_reaches_neither_the_database_nor_the_artifacts(
    finished_study: Finished, tmp_path: Path, uri: str
) -> None:
    folder = finished_study.copy(tmp_path)
    plan = finished_study.plan
    tracking = plan.study.tracking.model_copy(update={"uri": "https://me:hunter2@example.org/mlflow"})
    plan = plan._replace(study=plan.study.model_copy(update={"tracking": tracking}))
    write_study(folder, plan.spec, plan.trials)
    tracker = MlflowTracker(uri, plan.study, plan.trials, folder)
    tracker.close(finished_study.records)
    assert tracker.problem is None
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"study.json", "mlflow.db"} <= {path.name for path in kept}
    assert [path.name for path in kept if b"example.org" in path.read_bytes()], (
        "the rest of the address is told"
    )
    assert [path for path in kept if b"hunter2" in path.read_bytes()] == []
