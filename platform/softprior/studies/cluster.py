"""The Ray cluster a study runs on: the one it is given, or its own on this machine."""

from __future__ import annotations

import os
import threading
from typing import Any

from softprior.errors import UserError
from softprior.specs import ResourcesSpec


class Cluster:
    """A connection to the cluster at RAY_ADDRESS, or to one of our own on this machine.

    As a context manager it waits for the cluster, and disconnects (or stops its own) at the end.
    """

    def __init__(self, resources: ResourcesSpec) -> None:
        self._resources = resources
        self._thread: threading.Thread | None = None
        self._connected = threading.Event()
        self._finished = threading.Event()
        self._error: BaseException | None = None

    def start(self) -> None:
        """Begins to connect and returns at once: Ray needs seconds in which the driver can do other work."""
        if self._thread is None:
            # Trials keep the driver's folder, so relative paths in a study file mean the same everywhere.
            os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            self._thread = threading.Thread(target=self._hold, name="ray", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Disconnects, or stops the cluster if it is our own."""
        if self._thread is not None:
            self._finished.set()
            self._thread.join()

    def __enter__(self) -> Cluster:
        """Waits for the cluster.

        Raises:
            UserError: there is none, or no single node has what one trial asks for.
        """
        self.start()
        self._connected.wait()
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _hold(self) -> None:
        # The thread lives as long as the cluster: Linux kills Ray's processes with the thread, not the
        # process, that started them.
        import ray

        try:
            _connect(self._resources)
            _check(ray.nodes(), self._resources)
        except BaseException as error:  # raised again where somebody waits for the cluster
            self._error = error
        self._connected.set()
        self._finished.wait()
        ray.shutdown()


def _connect(resources: ResourcesSpec) -> None:
    from softprior.training.threads import thread_environment

    environment = thread_environment(resources.cpus)
    address = os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any]
    if address == "local":
        # Workers inherit the driver's environment. None is started ahead: Tune's trials ask for an
        # environment of their own, so Ray would start another and leave the first ones idle.
        os.environ.update(environment | {"RAY_prestart_worker_first_driver": "0"})
        options = {"include_dashboard": False, "object_store_memory": 256 * 2**20}
    else:
        options = {"runtime_env": {"env_vars": environment}}
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except ConnectionError:
        raise UserError(
            f"no Ray cluster answers at RAY_ADDRESS={address}; start it, or unset RAY_ADDRESS to run here"
        ) from None


def _check(nodes: list[dict], resources: ResourcesSpec) -> None:
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    fits = [n for n in alive if n.get("CPU", 0) >= resources.cpus and n.get("GPU", 0) >= resources.gpus]
    if not fits:
        best: dict[str, float] = max(alive, key=lambda n: (n.get("GPU", 0), n.get("CPU", 0)), default={})
        raise UserError(
            f"a trial asks for {resources.cpus} CPUs and {resources.gpus:g} GPUs, and the largest node has "
            f"{best.get('CPU', 0):g} and {best.get('GPU', 0):g}; lower resources.cpus or resources.gpus"
        )
