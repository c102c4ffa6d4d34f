"""A study over three nodes of this machine, each with a raylet of its own; one is killed midway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from softprior.records import load_records
from softprior.results import StudyFolder
from tests.builders import study_file
from tests.ray_head import ROOT, end

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]

NODES = """
import json, sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
print(json.dumps({"address": cluster.address}), flush=True)
for line in sys.stdin:
    node = next(node for node in workers if node.node_id == line.strip())
    cluster.remove_node(node, allow_graceful=False)
    print("removed", flush=True)
"""
"""A head without CPUs and two workers; kills the node whose id it reads."""


def test_a_study_outlives_one_of_its_nodes(tmp_path: Path) -> None:
    training = {"steps": 300, "batch": 8, "checkpoint": 1}
    file = study_file(tmp_path / "small.yaml", seeds=[0, 1], training=training)
    folder = StudyFolder(tmp_path / "results" / "small")
    checkpoints = tmp_path / "results" / "small" / "checkpoints"
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "PYTHONPATH")}
    options = {"cwd": ROOT, "text": True, "stdout": subprocess.PIPE}
    nodes = subprocess.Popen(
        [sys.executable, "-c", NODES],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        **options,
    )
    study = None
    try:
        environment["RAY_ADDRESS"] = json.loads(nodes.stdout.readline())["address"]
        command = [sys.executable, "-m", "jobs.study", str(file), "--results", str(tmp_path / "results")]
        study = subprocess.Popen(command, stderr=subprocess.STDOUT, env=environment, **options)
        while len(list(checkpoints.glob("*.safetensors"))) < 2:
            assert study.poll() is None, study.communicate()[0]
            time.sleep(0.1)
        running = worker_nodes(environment["RAY_ADDRESS"])
        assert len(running) == 2, "both workers have a trial"
        nodes.stdin.write(f"{running[0]}\n")
        nodes.stdin.flush()
        assert nodes.stdout.readline().strip() == "removed"
        output, _ = study.communicate(timeout=400)
        assert study.returncode == 0, output
    finally:
        for process in (study, nodes):
            if process is not None:
                end(process)
    records = load_records(folder.records)
    assert len(records) == 5
    assert {record.status for record in records.values()} == {"finished"}
    for record in records.values():
        if record.spec.prior:
            assert [point.step for point in record.steps] == list(range(1, 301))


def worker_nodes(address: str) -> list[str]:
    """Ids of the nodes that have CPUs and none of them free."""
    code = (
        "import json, ray\n"
        "from ray._private.state import available_resources_per_node\n"
        f"ray.init(address='{address}', log_to_driver=False, logging_level='ERROR')\n"
        "free = available_resources_per_node()\n"
        "busy = [n['NodeID'] for n in ray.nodes() if n['Alive'] and n['Resources'].get('CPU')\n"
        "        and not free.get(n['NodeID'], {}).get('CPU')]\n"
        "print(json.dumps(busy))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
