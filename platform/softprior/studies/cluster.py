"""The Ray cluster a study runs on: the one it is given, or its own on this machine."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from softprior.errors import UserError
from softprior.specs import ResourcesSpec
from softprior.training.threads import thread_environment


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
        self._before: dict[str, str | None] = {}

    def start(self) -> None:
        """Begins to connect and returns at once: Ray needs seconds in which the driver can do other work."""
        if self._thread is None:
            self._set_environment()
            self._thread = threading.Thread(target=self._hold, name="ray", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Disconnects, or stops the cluster if it is our own, and puts the environment back."""
        if self._thread is not None:
            self._finished.set()
            self._thread.join()
            for name, value in self._before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            self._before = {}

    def __enter__(self) -> Cluster:
        """Waits for the cluster.

        Raises:
            UserError: there is none, or no single node has what one trial asks for.
        """
        try:
            self.start()
            self._connected.wait()
            if self._error is not None:
                raise self._error
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _set_environment(self) -> None:
        """Variables that Ray, Tune and the workers of our own cluster inherit from the driver."""
        # Trials keep the driver's folder, so relative paths in a study file mean the same everywhere.
        wanted = {"RAY_CHDIR_TO_TRIAL_DIR": "0"}
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
            wanted |= {} if name in os.environ else {name: "0"}
        if _address() == LOCAL:
            # No worker is started ahead: Tune's trials ask for an environment of their own, so Ray would
            # start another and leave the first ones idle.
            wanted |= thread_environment(self._resources.cpus) | {"RAY_prestart_worker_first_driver": "0"}
        self._before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)

    def _hold(self) -> None:
        # The thread lives as long as the cluster: Linux kills Ray's processes with the thread, not the
        # process, that started them.
        try:
            with _own_sigterm():
                _connect(self._resources)
        except BaseException as error:  # raised again where somebody waits for the cluster
            self._error = error
        finally:
            self._connected.set()
        self._finished.wait()
        ray = sys.modules.get("ray")
        if ray is not None:
            ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Takes back the handling of SIGTERM: Ray's, set as it connects, prints a crash dump.

    `signal.signal` is for the main thread alone, which is busy elsewhere.
    """
    api = ctypes.pythonapi
    api.PyOS_getsig.restype = ctypes.c_void_p
    api.PyOS_setsig.argtypes = (ctypes.c_int, ctypes.c_void_p)
    handler = api.PyOS_getsig(signal.SIGTERM)
    try:
        yield
    finally:
        api.PyOS_setsig(signal.SIGTERM, handler)


LOCAL = "local"


def _address() -> str:
    return os.environ.get("RAY_ADDRESS") or LOCAL


def _connect(resources: ResourcesSpec) -> None:
    import ray

    address = _address()
    options: dict[str, Any]
    if address == LOCAL:
        options = {"include_dashboard": False, "object_store_memory": 256 * 2**20}
    else:
        options = {"runtime_env": {"env_vars": thread_environment(resources.cpus)}}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, ValueError) as error:
        if address == LOCAL:
            raise
        reason = "" if isinstance(error, ConnectionError) else f" ({str(error).splitlines()[0].rstrip('.')})"
        raise UserError(
            f"no Ray cluster answers at RAY_ADDRESS={address}{reason}; start it, or unset RAY_ADDRESS to run "
            "here"
        ) from None
    _check(ray.nodes(), resources)


def _check(nodes: list[dict], resources: ResourcesSpec) -> None:
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    fits = [n for n in alive if n.get("CPU", 0) >= resources.cpus and n.get("GPU", 0) >= resources.gpus]
    if not fits:
        best: dict[str, float] = max(alive, key=lambda n: (n.get("GPU", 0), n.get("CPU", 0)), default={})
        raise UserError(
            f"a trial asks for {resources.cpus} CPUs and {resources.gpus:g} GPUs, and the largest node has "
            f"{best.get('CPU', 0):g} and {best.get('GPU', 0):g}; lower resources.cpus or resources.gpus"
        )
