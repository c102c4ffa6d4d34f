"""The Ray cluster a study runs on: the one it is given, or its own on this machine."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from softprior.errors import UserError, hidden
from softprior.inputs.specs import ModelSpec, PlacementSpec, ResourcesSpec
from softprior.studies import ray_private
from softprior.studies.placement import (
    has_shared_hosts,
    logical_cpus,
    require_room,
    require_units,
    trial_threads,
)
from softprior.studies.reach import nobody, other_versions, require_reachable, resolved
from softprior.training.threads import thread_environment

HERE = PlacementSpec()
"""Every trial its own model."""

TUNE = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints a banner even at verbosity 0
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # a page each; the study says it in a line
}
"""What Tune reads from the environment."""

PENDING = "TUNE_MAX_PENDING_TRIALS_PG"
"""The number of trials that wait at Tune for a worker at a time; the others are not known to it yet."""

NICENESS = "RAY_worker_niceness"
"""Ray's variable for the priority of workers; a user's own value stays."""

PRELOADED = "softprior.studies.preloaded"
"""A module that imports all that a trial with a model of its own needs."""


class Cluster:
    """A connection to the cluster at RAY_ADDRESS, or to one of our own on this machine.

    As a context manager it waits for the cluster, and disconnects (or stops its own) at the end.

    Args:
        quiet: Ray's backend logs nothing but the reason it dies.
        trials: workers of a cluster of our own run trials, and import what these need as they start. Ray Data
            has three workers of its own beside those that read, which would import it for nothing.

    Attributes:
        nodes: resources of each node, including those an autoscaling cluster may add; empty until connected.
    """

    def __init__(
        self,
        resources: ResourcesSpec,
        placement: PlacementSpec = HERE,
        quiet: bool = False,
        trials: bool = True,
    ) -> None:
        self._resources = resources
        self._placement = placement
        self._quiet = quiet
        self._trials = trials
        self._thread: threading.Thread | None = None
        self._connected = threading.Event()
        self._finished = threading.Event()
        self._error: BaseException | None = None
        self._before: dict[str, str | None] = {}
        self.nodes: list[dict[str, float]] = []

    def start(self) -> None:
        """Starts to connect and returns soon: Ray takes seconds, in which the driver can do other work.

        Raises:
            UserError: this machine, if a cluster of our own is to run on it, has too few CPUs or GPUs.
        """
        if self._thread is None:
            if not elsewhere():
                require_units(self._resources, self._placement)
            self._set_environment()
            # Imported here: in the thread, imports of the caller, which has many of its own, would delay it.
            with suppress(Exception):  # raised again where somebody waits for the cluster
                import_module("ray")
            self._thread = threading.Thread(target=self._hold, name="ray", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Disconnects, or stops the cluster if it is our own, and restores the environment."""
        if self._thread is not None:
            self._finished.set()
            self._thread.join()
            for name, value in self._before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            self._before, self._thread, self._error = {}, None, None
            self._connected.clear()
            self._finished.clear()

    def __enter__(self) -> Cluster:
        """Waits for the cluster.

        Raises:
            UserError: there is none, or it lacks what the study needs at once.
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
        wanted = TUNE | {"RAY_CHDIR_TO_TRIAL_DIR": "0"}
        wanted |= {"RAY_BACKEND_LOG_LEVEL": "fatal"} if self._quiet else {}
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
            wanted |= {} if name in os.environ else {name: "0"}
        if not elsewhere():
            wanted |= self._threads() | {"RAY_preload_python_modules": self._preloaded()}
            # Ray would end the worker that is started ahead as soon as the first trials have all CPUs.
            wanted["RAY_idle_worker_killing_time_threshold_ms"] = "60000"
            # At Ray's 15, trials get next to nothing beside other programs (docs/decisions/0049).
            wanted |= {} if NICENESS in os.environ else {NICENESS: "0"}
            # Elsewhere Tune asks for all trials at once: a cluster that grows sees how many nodes it needs.
            wanted[PENDING] = "1"
        self._before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)

    def _threads(self) -> dict[str, str]:
        return thread_environment(trial_threads(self._resources, self._placement))

    def _preloaded(self) -> str:
        """What a worker imports as it starts, while the driver still plans: seconds of a trial's first step.

        Clients of a shared model need little of it. A worker with a GPU learns which one is its own only with
        its trial, and must not have looked for GPUs before.
        """
        own_model = not has_shared_hosts(self._placement) and not self._resources.gpus
        return PRELOADED if self._trials and own_model else ""

    def _hold(self) -> None:
        # The thread lives as long as the cluster: Linux kills Ray's processes with the thread, not the
        # process, that started them.
        try:
            with _own_sigterm():
                self.nodes = _connect(self._resources, self._placement, self._finished.is_set)
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
    """Restores our handling of SIGTERM: Ray's handler, set on connecting, prints a crash dump.

    `signal.signal` works only in the main thread, which is busy elsewhere.
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

WAIT = 120
"""Seconds that a cluster of our own has to start; Ray's 30 were too few at a load of 10 on two cores."""

STDERR = 2
"""Its file descriptor."""

LONGEST = 38
"""Characters of a temporary folder below which Ray's sockets find room, `/ray/session_.../sockets/...`."""

LAUNCHER = Path("~/ray_bootstrap_config.yaml").expanduser()
"""What `ray up` leaves on the head."""


def _address() -> str:
    return os.environ.get("RAY_ADDRESS") or LOCAL


def elsewhere() -> bool:
    """Whether studies run on an existing cluster."""
    return _address() != LOCAL


def require_machine(model: ModelSpec, resources: ResourcesSpec, placement: PlacementSpec = HERE) -> None:
    """Checks that this machine has what a run on it needs, before a first run writes anything.

    Raises:
        UserError: it lacks a GPU or CPUs.
    """
    if elsewhere():
        return
    if (reason := lacks_gpu(model)) is not None:
        raise UserError(reason)
    require_units(resources, placement)


def lacks_gpu(model: ModelSpec) -> str | None:
    """Why a study's model cannot run on this machine, if it is to; None if it can, or runs elsewhere."""
    if model.device != "cuda" or elsewhere():
        return None
    import torch

    if torch.cuda.is_available():
        return None
    return (
        "model.device = 'cuda', but torch sees no GPU on this machine; write 'auto' or 'cpu', or set "
        "RAY_ADDRESS to a cluster with GPUs"
    )


def _connect(
    resources: ResourcesSpec, placement: PlacementSpec, ended: Callable[[], bool]
) -> list[dict[str, float]]:
    import ray

    address = resolved(_address())
    options: dict[str, Any]
    if address == LOCAL:
        options = {"include_dashboard": False, "object_store_memory": 256 * 2**20}
        options |= {"num_cpus": logical_cpus(resources, placement), **_short_folder()}
    else:
        require_reachable(address)
        variables = {"RAY_CHDIR_TO_TRIAL_DIR": "0"} | thread_environment(trial_threads(resources, placement))
        options = {"runtime_env": {"env_vars": variables}}
    try:
        options["logging_level"] = "ERROR"
        with (
            _hidden_command(),
            _bare(address),
            _worker_ahead(address),
            _patient(address, ended),
            _level_unsaid(),
        ):
            ray.init(address=address, log_to_driver=False, **options)
    except (ConnectionError, ValueError) as error:
        if address == LOCAL:
            raise
        if "Failed to merge the Job's runtime env" in str(error):
            named = ", ".join(options["runtime_env"]["env_vars"])
            raise UserError(
                f"the env_vars of the job's runtime env must not set {named}, which softprior sets from "
                "resources.cpus; remove them"
            ) from None
        raise nobody(address, str(error).splitlines()[0].rstrip(".")) from None
    except RuntimeError as error:
        if not str(error).startswith("Version mismatch"):
            raise
        raise other_versions(address, str(error)) from None
    except ray_private.LateError:
        ray.shutdown()  # ends what has started
        raise UserError(
            f"Ray did not start on this machine within {WAIT} seconds, perhaps because the machine is "
            "busy; run the command again when it is less busy"
        ) from None
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = alive if address == LOCAL else _at_largest(alive)
    require_room(nodes, resources, placement)
    return nodes


def _hidden_command() -> AbstractContextManager[None]:
    """Hides passwords on the command line from Ray, which stores and shows every driver's command."""
    return ray_private.command_shown_as(hidden)


def _bare(address: str) -> AbstractContextManager[None]:
    """Starts a cluster of our own without processes that a study has no use for.

    It never grows, nobody opens its dashboard, and what workers print is not shown. A signal sent to all
    processes of a command, as by `timeout` and batch systems, would reach the autoscaler too, which prints a
    traceback on the driver's screen.
    """
    return ray_private.bare_cluster() if address == LOCAL else nullcontext()


def _worker_ahead(address: str) -> AbstractContextManager[None]:
    """Starts a cluster of our own with one worker, for the first trial; more may never be needed."""
    return ray_private.one_worker_ahead() if address == LOCAL else nullcontext()


def _patient(address: str, ended: Callable[[], bool]) -> AbstractContextManager[None]:
    """Gives a cluster of our own the time that it takes on a busy machine; Ctrl-C ends the wait."""
    return ray_private.long_wait(WAIT, ended) if address == LOCAL else nullcontext()


LEVEL_SAID = b"Set ray log level from environment variable"


def _level_unsaid() -> AbstractContextManager[None]:
    """Hides the line with which Ray's backend confirms the requested log level.

    It is printed before the level takes effect, by C++ code that writes straight to the file descriptor.
    """
    return ray_private.backend_starts_in(partial(_held_back, LEVEL_SAID))


@contextmanager
def _held_back(unwanted: bytes) -> Iterator[None]:
    """Captures what is written to stderr, then passes on the lines that do not contain certain words."""
    try:
        screen = os.dup(STDERR)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), STDERR)
        try:
            yield
        finally:
            os.dup2(screen, STDERR)
            os.close(screen)
            held.seek(0)
            for line in held:
                if unwanted not in line:
                    os.write(STDERR, line)


def _short_folder() -> dict[str, str]:
    """A folder of our own where Ray's default path is too long: a socket's path has at most 107 characters.

    Raises:
        UserError: RAY_TMPDIR is too long.
    """
    own = os.environ.get("RAY_TMPDIR")
    if own is not None and len(own) > LONGEST:
        raise UserError(
            f"RAY_TMPDIR = {own} has {len(own)} characters, and Ray's sockets need a folder of at most "
            f"{LONGEST}; set it to a shorter one, such as /tmp"
        )
    long = own is None and len(tempfile.gettempdir()) > LONGEST
    return {ray_private.TEMPORARY: f"/tmp/ray-{os.getuid()}"} if long else {}  # noqa: S108  the user's own folder


def _at_largest(alive: list[dict[str, float]]) -> list[dict[str, float]]:
    """The nodes' resources, including those of nodes that `ray up` lets the cluster add.

    The file that says so is on the head node, where the drivers of jobs run.
    """
    if not LAUNCHER.is_file():
        return alive
    config = yaml.safe_load(LAUNCHER.read_text(encoding="utf-8"))
    kinds: dict[str, dict[str, Any]] = config.get("available_node_types") or {}
    if any("CPU" not in kind["resources"] for kind in kinds.values()):
        return alive  # machines one has: Ray asks them as they start
    nodes: list[dict[str, float]] = []
    for name, kind in kinds.items():
        most = 1 if name == config["head_node_type"] else min(kind["max_workers"], config["max_workers"])
        nodes += [kind["resources"]] * most
    return nodes
