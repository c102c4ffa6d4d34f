"""The job over three nodes of this machine, each with a raylet of its own; one is killed midway."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

from softprior.activations.folder import RunFolder
from softprior.activations.merging import finish
from softprior.activations.plan import plan_activations
from tests.activations.test_worker import assert_same_store, read, spec, worker
from tests.ray_nodes import Nodes

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]


def test_the_job_outlives_one_of_its_nodes(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"{i} times {i + 7} is {i * (i + 7)}, or so they say.\n" for i in range(4000)))
    file = tmp_path / "run.yaml"
    files = [{"name": "lines", "path": str(lines)}]
    run = spec(tasks=[], files=files, resources={"cpus": 1, "concurrent": 2})
    file.write_text(yaml.safe_dump(run.model_dump(mode="json", exclude_defaults=True) | {"name": "small"}))
    folder = RunFolder(tmp_path / "results" / "small")
    with Nodes() as nodes:
        options = ("--no-findings", "--results", str(tmp_path / "results"))
        job = nodes.run("jobs.activations", str(file), *options)
        while len(folder.partials("lines")) < 2:
            assert job.poll() is None, job.communicate()[0]
            time.sleep(0.02)
        assert nodes.kill_one() == 2, "both nodes have a worker"
        assert not folder.summary.exists(), "the job was over before the node was gone"
        output, _ = job.communicate(timeout=400)
        assert job.returncode == 0, output
    assert json.loads(folder.summary.read_text())["tasks"]["lines"]["texts"] == 4000

    plan = plan_activations(run)
    undisturbed = RunFolder(tmp_path / "undisturbed")
    read(worker(plan, undisturbed), plan, *range(len(plan.shards)))
    finish(plan, undisturbed, {})
    assert_same_store(undisturbed, folder)
