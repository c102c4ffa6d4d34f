"""Three nodes of this machine, each with a raylet of its own: a head without CPUs and two workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.ray_head import ROOT, end

NODES = """
import json, os, sys
import ray
from ray._private.state import available_resources_per_node
from ray.cluster_utils import Cluster

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # where Ray prints what happens to its nodes
head = {"num_cpus": 0, "include_dashboard": False, "_system_config": {"health_check_period_ms": 500}}
cluster = Cluster(initialize_head=True, head_node_args=head)
workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
print(json.dumps(cluster.address), file=answers, flush=True)
for _ in sys.stdin:
    free = available_resources_per_node()
    busy = [node for node in workers if not free[node.node_id].get("CPU")]
    cluster.remove_node(busy[0], allow_graceful=False)
    print(json.dumps(len(busy)), file=answers, flush=True)
"""
"""Kills one of the nodes without a free CPU for each line it reads; says how many there were."""


class Nodes:
    """The three nodes, for as long as the context lasts, and what is started on them.

    Attributes:
        environment: of a driver that uses them.
        process: the one that has started them, and below it everything on them but drivers.
    """

    def __enter__(self) -> Nodes:
        self.environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "PYTHONPATH")}
        self._started: list[subprocess.Popen[str]] = []
        try:
            quiet = {"stdin": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.process = self._start([sys.executable, "-c", NODES], **quiet)
            self.environment["RAY_ADDRESS"] = self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):
            end(process)

    def run(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a command of the project as a driver; its output is one text."""
        return self._start([sys.executable, "-m", *arguments], stderr=subprocess.STDOUT)

    def kill_one(self) -> int:
        """Kills a worker node that is busy, with all that runs there; how many were busy until then."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        return json.loads(self.process.stdout.readline())

    def _start(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, text=True, stdout=subprocess.PIPE, **options
        )
        self._started.append(process)
        return process
