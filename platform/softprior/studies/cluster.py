"""The Ray cluster a study runs on: the one it is given, or its own on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from softprior.errors import UserError
from softprior.specs import ResourcesSpec
from softprior.training.threads import thread_environment


@contextmanager
def cluster(resources: ResourcesSpec) -> Iterator[None]:
    """Connects to the cluster at RAY_ADDRESS, or starts one here and stops it again.

    Raises:
        UserError: no single node has what one trial asks for.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Trials keep the driver's folder, so relative paths in a study file mean the same everywhere.
    environment = {**thread_environment(resources.cpus), "RAY_CHDIR_TO_TRIAL_DIR": "0"}
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    import ray

    address = os.environ.get("RAY_ADDRESS") or "local"
    own = {"include_dashboard": False, "object_store_memory": 256 * 2**20} if address == "local" else {}
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": environment},
            **own,
        )
    except ConnectionError:
        raise UserError(
            f"no Ray cluster answers at RAY_ADDRESS={address}; start it, or unset RAY_ADDRESS to run here"
        ) from None
    try:
        _check(ray.nodes(), resources)
        yield
    finally:
        ray.shutdown()


def _check(nodes: list[dict], resources: ResourcesSpec) -> None:
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    fits = [n for n in alive if n.get("CPU", 0) >= resources.cpus and n.get("GPU", 0) >= resources.gpus]
    if not fits:
        best: dict[str, float] = max(alive, key=lambda n: (n.get("GPU", 0), n.get("CPU", 0)), default={})
        raise UserError(
            f"a trial asks for {resources.cpus} CPUs and {resources.gpus:g} GPUs, and the largest node has "
            f"{best.get('CPU', 0):g} and {best.get('GPU', 0):g}; lower resources.cpus or resources.gpus"
        )
