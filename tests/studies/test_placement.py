"""Shared hosts: what the study file says, what the plan says, and whole studies on one copy of the model."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec, PlacementSpec, ResourcesSpec, StudySpec
from softprior.inputs.study_files import load_grid
from softprior.results.folder import StudyFolder
from softprior.results.records import Record, load_records
from softprior.studies.describe import running
from softprior.studies.estimate import total_cost
from softprior.studies.hosts import host_of
from softprior.studies.placement import (
    concurrent,
    logical_cpus,
    placed_model,
    require_room,
    trial_resources,
    trial_threads,
)
from softprior.studies.plan import plan_study
from tests.builders import study_file, tiny
from tests.studies.runs import (
    assert_as_alone,
    assert_tracked,
    ends,
    finish,
    nothing_is_left_running,
    start,
    tracked,
    wait_for_checkpoint,
)

__all__ = ["nothing_is_left_running"]  # a fixture

SHARED = {"hosts": "shared", "cpus": 1}


def study(path: Path, *overrides: str, **changes: Any) -> Any:
    return load_grid(study_file(path / "study.yaml", **changes), overrides)


def placed(spec: StudySpec) -> ModelSpec:
    return placed_model(spec.model, spec.resources, spec.placement)


def test_placement_is_no_part_of_a_trials_identity(tmp_path):
    alone, together = (plan_study(study(tmp_path, placement=p)) for p in ({"hosts": "local"}, SHARED))
    assert [t.id for t in alone.trials] == [t.id for t in together.trials]
    assert study(tmp_path).placement == PlacementSpec()
    assert PlacementSpec.model_validate(PlacementSpec().model_dump()) == PlacementSpec()


@pytest.mark.parametrize(
    ("placement", "said"),
    [
        ({"hosts": "remote"}, "placement.hosts"),
        ({"replicas": 2}, "replicas belongs to shared hosts"),
        ({"hosts": "shared", "ranks": 2, "gpus": 1}, "has 2 ranks, each of which needs a GPU of its own"),
        ({"hosts": "local", "tokens": 100}, "tokens belongs to shared hosts"),
        ({"hosts": "shared", "replicas": 0}, "placement.replicas"),
        ({"hosts": "shared", "cores": 2}, "placement.cores"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(tmp_path, placement, said):
    with pytest.raises(UserError) as refused:
        study(tmp_path, placement=placement)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_trials_become_light_clients(tmp_path):
    own, resources = PlacementSpec(), ResourcesSpec(cpus=2, gpus=1)
    assert trial_resources(resources, own) == {"cpu": 2, "gpu": 1}
    assert (trial_threads(resources, own), concurrent(resources, own)) == (2, None)
    assert logical_cpus(resources, own) is None
    both = PlacementSpec(hosts="shared", replicas=2)
    assert trial_resources(resources, both) == {"cpu": 0.1}
    assert (trial_threads(resources, both), concurrent(resources, both)) == (1, 8)
    assert concurrent(ResourcesSpec(concurrent=3), both) == 3
    assert study(tmp_path, model="tiny").model.device == "auto"
    assert placed(study(tmp_path, model="tiny", resources={"gpus": 1})).device == "auto"
    # A GPU of trials that do not use any is not for the model.
    assert placed(study(tmp_path, model="tiny", resources={"gpus": 1}, placement=SHARED)).device == "cpu"
    gpu = {**SHARED, "gpus": 1}
    assert placed(study(tmp_path, model="tiny", placement=gpu)).device == "auto"


def test_a_cluster_without_room_is_said_before_anything_waits():
    small = [{"CPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}]
    one = ResourcesSpec(cpus=1)
    require_room(small, one, PlacementSpec(hosts="shared", replicas=3, cpus=3))
    require_room(small, ResourcesSpec(cpus=8, gpus=1), PlacementSpec())
    for placement, said in (
        (PlacementSpec(hosts="shared", cpus=9), r"a replica of the model asks for 9 CPUs .* placement\.cpus"),
        (
            PlacementSpec(hosts="shared", replicas=2, cpus=6),
            r"2 replicas .* ask for 12.1 CPUs .* has 12 and 1",
        ),
        (PlacementSpec(hosts="shared", replicas=2, cpus=1, gpus=1), r"2 GPUs"),
        (PlacementSpec(hosts="shared", replicas=2, cpus=5), r"on one node .* room for 1 of 2; lower"),
    ):
        with pytest.raises(UserError, match=said):
            require_room(small, one, placement)
    parted = [{"CPU": 4.0}, {"CPU": 2.0}, {"CPU": 2.0}]
    with pytest.raises(UserError, match=r"with its 3 CPUs and 0 GPUs, .* room for 1 of 2"):
        require_room(parted, one, PlacementSpec(hosts="shared", replicas=2, cpus=3))
    tenths = PlacementSpec(hosts="shared", replicas=10, cpus=1, gpus=0.1)
    require_room([{"CPU": 11.0, "GPU": 1.0}], one, tenths)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"placement": {"hosts": "shared"}, "seeds": [0, 1, 2]},
            "one copy of the model on 2 CPUs serves up to 4 trials at a time, at most 2,048 positions in a "
            "pass: less than a minute; starting up is not counted",
        ),
        (
            {"placement": {"hosts": "shared", "replicas": 2, "tokens": None}, "resources": {"concurrent": 2}},
            "2 copies of the model, each on 2 CPUs, serve up to 2 trials at a time: less than a minute; "
            "starting up is not counted",
        ),
        (
            {"placement": {"hosts": "shared", "replicas": 3}},
            "3 copies of the model, each on 2 CPUs, serve up to 3 trials at a time, at most 2,048 positions "
            "in a pass, but this machine has room for 2, so a run here is refused; lower placement.replicas, "
            "cpus or gpus",
        ),
    ],
)
def test_the_dry_run_says_what_sharing_means(tmp_path, monkeypatch, changes, said):
    monkeypatch.setattr("softprior.studies.describe.machine_cpus", lambda: 4)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    plan = plan_study(study(tmp_path, **changes))
    cost, where = total_cost(plan.trials, plan.components), (plan.study.resources, plan.study.placement)
    assert running(cost, len(plan.trials), plan.model, *where) == said


def test_a_local_host_is_the_process_own():
    with host_of(ModelSpec(id="tiny", device="cpu"), None) as given:
        assert given.host is tiny().host
        assert given.fingerprint == tiny().fingerprint


FOUR: dict[str, Any] = {
    "priors": ["isotropic", "fitted"],
    "methods": [{"soft": {"tokens": 4}}, {"prefix": {"tokens": 2}}],
    "training": {"steps": 6, "batch": 8, "checkpoint": 1},
    "resources": {"cpus": 1, "concurrent": 4},
}


def ran(folder: StudyFolder) -> dict[str, Record]:
    return load_records(folder.records)


@pytest.mark.faults  # a search in tests/studies/search/test_search_runs.py proves the same
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_study_on_one_copy_of_the_model_has_the_losses_of_one_with_many(tmp_path):
    file = study_file(tmp_path / "small.yaml", **FOUR, placement={**SHARED, "tokens": 3000})
    code, output = finish(start(file, tmp_path / "results", "tracking.enabled=false"))
    assert code == 0, output
    records = ran(StudyFolder(tmp_path / "results" / "small"))
    assert [record.status for record in records.values()] == ["finished"] * 5
    for record in records.values():
        assert_as_alone(record, tmp_path / "own")
        assert record.environment["threads"] == 1


def assert_as_if_nothing_had_died(file: Path, root: Path, output: str) -> None:
    """That each trial ran to its end once, with the losses it has alone and one run in MLflow."""
    records = ran(StudyFolder(root / "results" / "small"))
    assert_whole(file, root, records, output)
    for record in records.values():
        assert_as_alone(record, root / "own")


def assert_whole(file: Path, root: Path, records: dict[str, Record], output: str) -> None:
    """That each trial ran to its end once and left no checkpoint, with one run in MLflow."""
    folder = StudyFolder(root / "results" / "small")
    assert set(records) == {spec.id for spec in plan_study(load_grid(file)).trials}
    assert {record.status for record in records.values()} == {"finished"}
    assert len(ends(output)) == len(set(ends(output))) == len(records)
    assert not any(folder.checkpoint(trial).exists() for trial in records)
    assert_tracked(root / "results", records)
    assert tracked(root / "results")[0].info.status == "FINISHED"


@pytest.mark.faults
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_replica_killed_in_the_middle_of_a_study_costs_nothing_but_time(tmp_path):
    training = {"steps": 80, "batch": 8, "checkpoint": 1}
    file = study_file(tmp_path / "small.yaml", **FOUR | {"training": training}, placement=SHARED)
    folder = StudyFolder(tmp_path / "results" / "small")
    process = start(file, tmp_path / "results")
    wait_for_checkpoint(process, folder)
    (replica,) = replicas_of(process.pid)
    os.kill(replica, signal.SIGKILL)
    code, output = finish(process)
    assert code == 0, output
    assert re.search(r"replica \d+ of the model was lost and started again", output), output
    assert_as_if_nothing_had_died(file, tmp_path, output)


@pytest.mark.faults
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_rank_killed_in_the_middle_of_a_study_costs_nothing_but_time(tmp_path):
    changes: dict[str, Any] = {
        "priors": ["isotropic"],
        "training": {"steps": 40, "batch": 4, "checkpoint": 1},
        "resources": {"cpus": 1, "concurrent": 1, "patience": 5},
        "placement": {**SHARED, "cpus": 2, "ranks": 2},
    }
    file = study_file(tmp_path / "small.yaml", **changes)
    code, output = finish(start(file, tmp_path / "undisturbed", "tracking.enabled=false"))
    assert code == 0, output
    folder = StudyFolder(tmp_path / "results" / "small")
    process = start(file, tmp_path / "results")
    wait_for_checkpoint(process, folder)
    (replica,) = replicas_of(process.pid)
    rank = psutil.Process(replica).children()[-1]
    assert "softprior.models.rank_process" in " ".join(rank.cmdline())
    rank.kill()
    code, output = finish(process)
    assert code == 0, output
    assert re.search(r"ranks of replica \d+ were lost and started again", output), output
    records, undisturbed = ran(folder), ran(StudyFolder(tmp_path / "undisturbed" / "small"))
    assert_whole(file, tmp_path, records, output)
    for trial, record in records.items():
        # One trial at a time: passes add in one order, and forty steps of AdamW amplify any other.
        assert record.steps == undisturbed[trial].steps
        assert record.test == undisturbed[trial].test
    assert not folder.stalls("replica").exists(), "nothing hung"


@pytest.mark.faults
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_study_over_sharded_weights_agrees_with_one_over_whole_ones(tmp_path):
    found = {}
    for name, placement in (("own", {"hosts": "local"}), ("sharded", {**SHARED, "cpus": 2, "ranks": 2})):
        file = study_file(tmp_path / f"{name}.yaml", **FOUR, placement=placement)
        code, output = finish(start(file, tmp_path / name, "tracking.enabled=false"))
        assert code == 0, output
        found[name] = ran(StudyFolder(tmp_path / name / "small"))
    for trial, own in found["own"].items():
        assert found["sharded"][trial].test.loss == pytest.approx(own.test.loss, rel=1e-3)


def replicas_of(driver: int) -> list[int]:
    """Processes of actors of the class Replica, as Ray titles them, that a driver started."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and _is_replica(folder, driver)
        ]
        if found:
            return found
        time.sleep(0.1)
    pytest.fail("there is no replica")


def _is_replica(folder: Path, driver: int) -> bool:
    try:
        title = (folder / "cmdline").read_bytes()
        return title.startswith(b"ray::Replica") and driver in _ancestors(int(folder.name))
    except OSError:
        return False  # it ended meanwhile


def _ancestors(process: int) -> list[int]:
    found = []
    while process > 1:
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(process)
    return found
