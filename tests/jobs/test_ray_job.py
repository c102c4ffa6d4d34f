"""Studies through `ray job submit`, on a head of the test's own that asks for a token."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray
import yaml

from softprior.records import load_records
from softprior.results import StudyFolder
from softprior.statistics.store import stored
from tests.builders import study_file
from tests.ray_head import Head, free_ports

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

RAY = [sys.executable, "-m", "ray.scripts.scripts"]

WHERE = """
import json, subprocess, sys
from pathlib import Path
import ray, softprior
from softprior.assets.models import model_fingerprint
from softprior.specs import ModelSpec

@ray.remote(num_cpus=0)
def worker():
    code = "import softprior; print(softprior.__file__)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return softprior.__file__, found.stdout.strip(), model_fingerprint(ModelSpec(id="tiny"))

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


def test_the_package_reaches_driver_workers_and_subprocesses_and_failures_fail_the_job(
    head: Head, tmp_path: Path
) -> None:
    probe = tmp_path / "where.py"
    probe.write_text(WHERE)
    study = study_file(tmp_path / "small.yaml", priors=["fitted", {"isotropic": {"scale": 1e39}}])
    results = tmp_path / "results"
    run = f"python {probe}; python -m jobs.study {study}; python -m jobs.study {study} --results {results}"
    code, output = submit(head, "sh", "-c", run)
    assert code != 0, output
    assert "failed with exit code 1" in output, output

    found = next(line for line in output.splitlines() if line.startswith("FOUND"))
    driver, worker, subprocess_, fingerprint, files = json.loads(found.removeprefix("FOUND "))
    for path in (driver, worker, subprocess_):
        assert "/runtime_resources/py_modules_files/" in path, (
            "the installed package, not the one that came along"
        )
    assert len(fingerprint) == 64
    assert {"jobs", "analysis", "platform"} <= set(files)
    assert not {".git", ".venv", "results", "tests"} & set(files)

    assert "error: the working folder of a Ray job is thrown away" in output
    assert "1 of 3 trials failed" in output
    assert "study ━" not in output, "bars belong to terminals"
    assert "test loss" in output
    records = load_records(StudyFolder(results / "small").records)
    assert sorted(record.status for record in records.values()) == ["failed", "finished", "finished"]


def test_activation_statistics_are_a_job_too(head: Head, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    task = {"arithmetic": {"train_examples": 18, "validation_examples": 9, "test_examples": 9}}
    run = {"name": "small", "model": "tiny", "tasks": [task], "sites": ["resid.0"], "resources": {"cpus": 1}}
    file.write_text(yaml.safe_dump({**run, "tracking": {"enabled": False}}))
    command = ("python", "-m", "jobs.activations", str(file), "--no-findings", "--results", str(tmp_path))
    code, output = submit(head, *command)
    assert code == 0, output
    assert stored(tmp_path / "small" / "store") == {"arithmetic": ["resid.0"], "vocabulary": ["resid.0"]}


def test_a_stopped_job_stops_its_trials_and_another_goes_on(head: Head, tmp_path: Path) -> None:
    training = {"steps": 300, "batch": 8, "checkpoint": 1}
    study = study_file(tmp_path / "small.yaml", priors=["fitted"], training=training)
    folder = StudyFolder(tmp_path / "results" / "small")
    command = ("python", "-m", "jobs.study", str(study), "--results", str(tmp_path / "results"))
    code, output = submit(head, *command, options=("--no-wait", "--submission-id", "first"))
    assert code == 0, output
    checkpoints = tmp_path / "results" / "small" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("*.safetensors")):
        assert time.monotonic() < deadline, head.ask("GET", "jobs/first/logs")["logs"]
        time.sleep(0.1)
    head.ask("POST", "jobs/first/stop")
    while (status := head.ask("GET", "jobs/first")["status"]) != "STOPPED":
        assert status == "RUNNING"
        time.sleep(0.1)
    log = head.ask("GET", "jobs/first/logs")["logs"]
    assert "go on with" in log, "it was killed before it could end in order"
    (checkpoint,) = checkpoints.glob("*.safetensors")
    written = checkpoint.stat().st_mtime_ns
    time.sleep(1)
    assert checkpoint.stat().st_mtime_ns == written, "a trial goes on without its driver"

    code, output = submit(head, *command)
    assert code == 0, output
    assert "1 of 2 trials are finished already" in output
    rows = pq.read_table(folder.table).to_pylist()
    assert [row["status"] for row in rows] == ["finished", "finished"]
    assert max(row["steps"] for row in rows) == 300


CONNECT = """
import sys
from softprior.errors import UserError
from softprior.specs import ResourcesSpec
from softprior.studies.cluster import Cluster
try:
    with Cluster(ResourcesSpec(cpus=int(sys.argv[1]))):
        print("connected")
except UserError as error:
    sys.exit(f"error: {error}")
"""

SAY_VERSION = """
import json, os, sys
from ray._private import ray_constants
from ray._raylet import GcsClient
gcs = GcsClient(address=os.environ["RAY_ADDRESS"])
where = (b"CLUSTER_METADATA", ray_constants.KV_NAMESPACE_CLUSTER)
found = json.loads(gcs.internal_kv_get(*where))
changed = json.dumps(found | {"ray_version": sys.argv[1]}).encode()
gcs.internal_kv_put(where[0], changed, True, where[1])
"""
"""What a cluster says of its version, put into its own table."""


def say_version(head: Head, version: str) -> None:
    done = head.run(sys.executable, "-c", SAY_VERSION, version, RAY_ADDRESS=head.address)
    assert done.returncode == 0, done.stderr


def refused(head: Head, cpus: int = 1, **environment: str) -> str:
    """What a driver says that cannot use the cluster: one sentence."""
    done = head.run(sys.executable, "-c", CONNECT, str(cpus), **{"RAY_ADDRESS": head.address, **environment})
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_what_keeps_a_driver_from_the_cluster_is_said_in_one_sentence(head: Head, tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    assert f"no Ray cluster answers at RAY_ADDRESS={nobody}" in refused(head, RAY_ADDRESS=nobody)
    assert "asks for 99 CPUs" in refused(head, cpus=99)
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    assert "token" in refused(head, RAY_AUTH_TOKEN_PATH=str(wrong))
    assert "token" in refused(head, RAY_AUTH_TOKEN_PATH=str(tmp_path / "nothing"))
    assert "token" in refused(head, RAY_AUTH_MODE="disabled")
    say_version(head, "2.1.0")
    try:
        assert "runs Ray 2.1.0 and Python" in refused(head)
    finally:
        say_version(head, ray.__version__)
