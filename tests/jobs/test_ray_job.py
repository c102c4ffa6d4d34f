"""Studies through `ray job submit`, on a head of the test's own that asks for a token."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from softprior.results.folder import StudyFolder
from softprior.results.records import load_records
from softprior.statistics.store import stored
from softprior.studies.search.storage import read_search
from tests.builders import study_file
from tests.ray_head import Head, free_ports
from tests.studies.runs import Undisturbed, assert_as_undisturbed, undisturbed

__all__ = ["undisturbed"]  # a fixture

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

RAY = [sys.executable, "-m", "ray.scripts.scripts"]

WHERE = """
import json, subprocess, sys
from pathlib import Path
import ray, softprior
from softprior.assets.models import known_model
from softprior.inputs.specs import ModelSpec

@ray.remote(num_cpus=0)
def worker():
    code = "import softprior; print(softprior.__file__)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return softprior.__file__, found.stdout.strip(), known_model(ModelSpec(id="tiny")).fingerprint

ray.init(log_to_driver=False)
packages = [softprior.__file__, *ray.get(worker.remote())]
print("FOUND", json.dumps(packages + [sorted(path.name for path in Path.cwd().iterdir())]))
"""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    found = Head(cpus=2)
    try:
        yield found
    finally:
        found.close()


def submit(head: Head, *command: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """Submits a command as README and docs say it."""
    done = head.run(
        *RAY,
        *("job", "submit", "--address", head.jobs, "--working-dir", "."),
        *("--runtime-env", "jobs/runtime_env.yaml", *options, "--", *command),
    )
    return done.returncode, done.stdout + done.stderr


def test_a_job_has_all_it_needs_stops_in_order_goes_on_and_fails_with_its_trials(
    head: Head, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    """A probe and a search are stopped, and the search, submitted again, ends as if it had not been."""
    probe, results = tmp_path / "where.py", tmp_path / "results"
    probe.write_text(WHERE)
    study = study_file(
        tmp_path / "small.yaml",
        priors=[{"isotropic": {"scale": {"search": {"choices": [0.05, 1e39]}}}}],
        training={"steps": 120, "batch": 8, "checkpoint": 1},
        search={"trials": 4, "sampler": "random"},
        tracking={"enabled": False},
    )
    search = ("python", "-m", "jobs.study", str(study), "--results", str(results))
    code, output = submit(
        head,
        *("sh", "-c", f"python {probe} & exec {shlex.join(search)}"),
        options=("--no-wait", "--submission-id", "first"),
    )
    assert code == 0, output
    folder = StudyFolder(results / "small")
    checkpoints = folder.checkpoint("any").parent
    while not list(checkpoints.glob("*.safetensors")) or "FOUND" not in log_of(head, "first"):
        assert status_of(head, "first") in ("PENDING", "RUNNING"), log_of(head, "first")
        time.sleep(0.1)
    head.ask("POST", "jobs/first/stop")
    while (status := status_of(head, "first")) != "STOPPED":
        assert status == "RUNNING"
        time.sleep(0.1)
    (checkpoint,) = checkpoints.glob("*.safetensors")
    written, before = checkpoint.stat().st_mtime_ns, load_records(folder.records)

    log = log_of(head, "first")
    found = next(line for line in log.splitlines() if line.startswith("FOUND"))
    driver, worker, subprocess_, fingerprint, files = json.loads(found.removeprefix("FOUND "))
    for path in (driver, worker, subprocess_):
        assert "/runtime_resources/py_modules_files/" in path, (
            "the installed package, not the one that came along"
        )
    assert len(fingerprint) == 64
    assert {"jobs", "analysis", "platform"} <= set(files)
    assert not {".git", ".venv", "results", "tests"} & set(files)
    assert "submit the same job again to continue" in log, "it was killed before it could end in order"
    time.sleep(1)
    assert checkpoint.stat().st_mtime_ns == written, "a trial goes on without its driver"

    code, output = submit(head, *search)
    assert code != 0, output
    assert "failed with exit code 1" in output, output
    assert "1 trial failed; the sampler knows" in output
    assert "study ━" not in output, "bars belong to terminals"
    for line in (r"^ +[0-9a-f]+  .*  loading the model$", r"^ *\d/5  [0-9a-f]+  .*  test loss \d"):
        assert re.search(line, output, re.MULTILINE), output
    assert "lowest validation loss" in output
    records = load_records(folder.records)
    assert sorted(record.status for record in records.values()) == ["failed", "finished", "finished"]
    assert "finished" in {record.status for record in before.values()}
    assert all(records[i] == record for i, record in before.items()), "a trial ran again"
    finished = {i: record for i, record in records.items() if record.status == "finished"}
    assert_as_undisturbed(folder, finished, undisturbed)
    resumed = records[checkpoint.stem]
    told = {trial.state.name: trial.values for trial in read_search(folder.root).get_trials()}
    assert told == {"COMPLETE": [resumed.validation[-1].loss], "FAIL": None}


@pytest.mark.faults  # not for what it kills: the job above shows what a job has
def test_statistics_of_activations_are_collected_by_a_job(head: Head, tmp_path: Path) -> None:
    statistics, results = tmp_path / "statistics.yaml", tmp_path / "results"
    task = {"arithmetic": {"train_examples": 18, "validation_examples": 9, "test_examples": 9}}
    run = {"name": "sums", "model": "tiny", "tasks": [task], "sites": ["resid.0"], "resources": {"cpus": 1}}
    statistics.write_text(yaml.safe_dump({**run, "tracking": {"enabled": False}}))
    collect = (
        "python",
        "-m",
        "jobs.activations",
        str(statistics),
        "--no-findings",
        "--results",
        str(results),
    )
    code, output = submit(head, *collect)
    assert code == 0, output
    assert stored(results / "sums" / "store") == {"arithmetic": ["resid.0"], "vocabulary": ["resid.0"]}


def status_of(head: Head, job: str) -> str:
    found: str = head.ask("GET", f"jobs/{job}")["status"]
    return found


def log_of(head: Head, job: str) -> str:
    found: str = head.ask("GET", f"jobs/{job}/logs")["logs"]
    return found


REFUSED = """
import sys
from softprior.errors import UserError
from softprior.inputs.specs import ResourcesSpec
from softprior.studies.cluster import Cluster

def connect(cpus=1):
    try:
        with Cluster(ResourcesSpec(cpus=cpus)):
            sys.exit("connected")
    except UserError as error:
        print("error:", error)
"""

ONE = REFUSED + "connect()"

SEVERAL = (
    REFUSED
    + """
import json, os
from ray._private import ray_constants
from ray._raylet import GcsClient
from softprior.studies.nodes import await_nodes

connect(99)
await_nodes(os.environ["RAY_ADDRESS"], count=1, patience=0)
try:
    await_nodes(os.environ["RAY_ADDRESS"], count=2, patience=0)
except UserError as error:
    print("error:", error)
gcs = GcsClient(address=os.environ["RAY_ADDRESS"])
where = (b"CLUSTER_METADATA", ray_constants.KV_NAMESPACE_CLUSTER)
found = gcs.internal_kv_get(*where)
changed = json.dumps(json.loads(found) | {"ray_version": "2.1.0"}).encode()
gcs.internal_kv_put(where[0], changed, True, where[1])
try:
    connect()
finally:
    gcs.internal_kv_put(where[0], found, True, where[1])
os.environ["RAY_ADDRESS"] = sys.argv[1]
connect()
"""
)
"""What a cluster says of its version is changed in its own table."""


def test_what_keeps_a_driver_from_the_cluster_is_said_in_one_sentence(head: Head, tmp_path: Path) -> None:
    wrong, nothing = tmp_path / "token", tmp_path / "nothing"
    wrong.write_text("0" * 64)
    for changed in (
        {"RAY_AUTH_TOKEN_PATH": str(wrong)},
        {"RAY_AUTH_TOKEN_PATH": str(nothing)},
        {"RAY_AUTH_MODE": "disabled"},
    ):
        (line,) = said(head, ONE, **changed)
        assert "asks for its token" in line
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    lines = said(head, SEVERAL, nobody)
    assert len(lines) == 4
    assert "asks for 99 CPUs" in lines[0]
    assert f"1 of 2 nodes have joined the Ray cluster at {head.address} after 0 seconds" in lines[1]
    assert "runs Ray 2.1.0 and Python" in lines[2]
    assert f"no Ray cluster answers at RAY_ADDRESS={nobody}" in lines[3]


def said(head: Head, code: str, *arguments: str, **environment: str) -> list[str]:
    """What a driver says that cannot use the cluster: a line for each time it tries."""
    here = {"RAY_ADDRESS": head.address, **environment}
    done = head.run(sys.executable, "-c", code, *arguments, **here)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith("error: ") for line in lines), lines
    return lines
