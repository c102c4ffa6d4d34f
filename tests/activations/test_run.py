"""The whole job through Ray: done once, killed, and gone on with."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml

from jobs.activations import FINISHED, main
from softprior.activations.folder import RunFolder
from softprior.activations.plan import plan_activations
from softprior.activations.run import _read
from softprior.errors import UserError
from softprior.inputs.specs import ResourcesSpec
from softprior.studies.cluster import Cluster
from tests.activations.runs import run
from tests.activations.test_worker import assert_same_store, spec
from tests.ray_head import end
from tests.signals import hear_ctrl_c

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]


def test_a_finished_run_is_not_repeated_and_another_needs_its_own_folder(undisturbed):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.store.rglob("*.safetensors")}
    assert run(undisturbed)["tasks"]["arithmetic"]["texts"] == 45
    assert {path: path.stat().st_mtime_ns for path in undisturbed.store.rglob("*.safetensors")} == before
    with pytest.raises(UserError, match="contains another run"):
        run(undisturbed, sample=41)


@pytest.mark.faults
def test_what_ended_the_workers_is_told(tmp_path):
    """An error outside any shard, which Ray wraps: here a run planned without its data's fingerprint."""
    plan = plan_activations(spec())
    plan = replace(plan, identity={"model": plan.identity["model"]})
    folder = RunFolder(tmp_path)
    folder.parts.mkdir()
    with Cluster(ResourcesSpec(cpus=1)):
        failed, lost = _read(plan, folder, plan.shards, lambda _: None)
    assert failed == {}
    assert lost.startswith("its worker died (")
    assert "KeyError: 'data.arithmetic'" in lost


def started(file: Path, results: Path) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "jobs.activations",
        str(file),
        "--no-findings",
        "--results",
        str(results),
    ]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=hear_ctrl_c,
    )


def shards_on_disk(folder: RunFolder) -> int:
    if not folder.parts.exists():
        return 0
    return sum(
        len(partial.shards) for task in ("arithmetic", "vocabulary") for partial in folder.partials(task)
    )


def wait_for_shards(process: subprocess.Popen, folder: RunFolder, count: int) -> None:
    while shards_on_disk(folder) < count:
        assert process.poll() is None, process.stdout.read().decode()
        time.sleep(0.01)


@pytest.mark.faults  # what a dead worker leaves is in test_worker and test_bucket, without Ray
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_its_worker_killed_and_then_stopped_in_order_it_ends_the_same(undisturbed, number, tmp_path):
    """The driver replaces a worker, ends in order when it is told to, and goes on from what is on disk."""
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(spec().model_dump(mode="json", exclude_defaults=True) | {"name": "small"}))
    folder = RunFolder(tmp_path / "small")
    process = started(file, tmp_path)
    wait_for_shards(process, folder, 1)
    (worker,) = workers_of(process)
    worker.kill()
    before = shards_on_disk(folder)
    wait_for_shards(process, folder, before + 1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    output = process.communicate()[0].decode()
    assert process.returncode == 128 + number, output
    assert "stopping; what is on disk stays" in output
    pattern = r"^stopped with (\d+) of (\d+) shards on disk \((\S+) of about \S+ tokens\); run the same"
    said = re.search(pattern, output, re.M)
    assert int(said[1]) == shards_on_disk(folder), output
    assert "Traceback" not in output
    _, left = psutil.wait_procs(children, timeout=20)  # init reaps what the driver has ended
    assert left == []
    assert not folder.summary.exists()
    assert main([str(file), "--no-findings", "--results", str(tmp_path)]) == FINISHED
    assert_same_store(undisturbed, folder)
    assert json.loads(folder.summary.read_text())["tasks"]["arithmetic"]["texts"] == 45


def workers_of(process: subprocess.Popen) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "MapWorker" in " ".join(child.cmdline())]


@pytest.mark.faults
def test_all_of_it_killed_it_ends_the_same(undisturbed, tmp_path):
    """SIGKILL to everything is what losing the machine would be."""
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(spec().model_dump(mode="json", exclude_defaults=True) | {"name": "small"}))
    folder = RunFolder(tmp_path / "small")
    process = started(file, tmp_path)
    wait_for_shards(process, folder, 2)
    end(process)
    assert not folder.summary.exists()
    assert main([str(file), "--no-findings", "--results", str(tmp_path)]) == FINISHED
    assert_same_store(undisturbed, folder)
