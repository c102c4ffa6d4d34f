"""Runs of the activation job that several files compare with."""

from __future__ import annotations

from typing import Any

from softprior.activations.folder import RunFolder
from softprior.activations.plan import plan_activations
from softprior.activations.run import run_activations
from softprior.inputs.specs import ResourcesSpec
from softprior.studies.cluster import Cluster
from tests.activations.test_worker import spec


def run(folder: RunFolder, **changes: Any) -> dict[str, Any]:
    """The summary of a run in this process, with a worker of Ray's."""
    cluster = Cluster(ResourcesSpec(cpus=1), trials=False)
    return run_activations(plan_activations(spec(**changes)), folder, cluster, lambda _: None)
