"""What softprior uses of Ray's private parts, all of it; checked on Ray 2.60.0.

None of it is promised to stay. `tests/test_private_parts.py` says which part another version has changed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from softprior.studies import ray_agent

LOOK = 0.2
"""Seconds between two looks at whether a node has started."""

TEMPORARY = "_temp_dir"
"""Option of `ray.init`: the folder of sessions, in place of one below a temporary folder with a long path."""

LATE = "timed out during startup"
"""What Ray says of a node that did not start within its 30 seconds, which no option changes."""


class LateError(Exception):
    """A node of our own did not start in time, or nobody waits for it any more."""


def cluster_of_this_machine() -> str:
    """HOST:PORT of the cluster that the address `auto` stands for.

    Raises:
        ConnectionError: there is none.
    """
    from ray._private.services import canonicalize_bootstrap_address

    return str(canonicalize_bootstrap_address("auto"))


def ask_for_id(address: str, seconds: float) -> None:
    """Asks the head at HOST:PORT for the cluster's id, as Ray does first of all, but once and with a limit.

    Raises:
        AuthenticationError: this process has no token.
        RpcError: of gRPC; nobody answers, or the token is refused.
    """
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    with init_grpc_channel(address) as channel:
        server = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        request = gcs_service_pb2.GetClusterIdRequest()  # type: ignore[attr-defined]  # made by protobuf
        server.GetClusterId(request, timeout=seconds)


def command_shown_as(change: Callable[[str], str]) -> AbstractContextManager[None]:
    """Changes the driver's command line as Ray stores and shows it."""
    from ray._private import utils

    return _replacing(utils, "get_entrypoint_name", lambda own: lambda: change(own()))


@contextmanager
def bare_cluster() -> Iterator[None]:
    """A cluster that is started meanwhile has no autoscaler, dashboard, log monitor or dashboard agent.

    Each is a process that takes a second or two of a processor to start. Ray waits for the dashboard; and for
    the agent before the first worker starts, 3.4 s longer where another cluster has the agent's port.
    """
    from ray._private import utils
    from ray._private.node import Node

    with ExitStack() as stack:
        for name in ("start_monitor", "start_api_server", "start_log_monitor"):
            stack.enter_context(_replacing(Node, name, lambda _: _nothing))
        # Ray imports what the agent needs only to learn whether it is installed: half a second.
        stack.enter_context(_replacing(utils, "get_dashboard_dependency_error", lambda _: _unwanted))
        stack.enter_context(_command_of_raylet(_without_agent))
        yield


def _nothing(node: Any, **options: Any) -> None:
    """In place of a method that starts a process."""


def _unwanted() -> ImportError:
    """In place of what says whether the dashboard can run."""
    return ImportError("softprior has no use for it")


AGENT = "--dashboard_agent_command="
"""Option of Ray's process for this node: the program that measures it and talks to the dashboard."""

FOLDER, NODE = "--session_dir=", "--node_id="
"""Further options: of which node it is, and the folder in which programs leave the numbers of their ports."""

PORTS = ("METRICS_AGENT_PORT_NAME", "METRICS_EXPORT_PORT_NAME", "DASHBOARD_AGENT_LISTEN_PORT_NAME")
"""Names of the agent's ports."""

NO_PORT = -1
"""What a minimal installation of Ray, whose agent listens to nobody, leaves in their place."""


def _without_agent(command: list[str]) -> list[str]:
    from ray import _raylet  # compiled, so without types

    (folder,) = (word.removeprefix(FOLDER) for word in command if word.startswith(FOLDER))
    (node,) = (word.removeprefix(NODE) for word in command if word.startswith(NODE))
    for name in PORTS:
        _raylet.persist_port(folder, node, getattr(_raylet, name), NO_PORT)  # type: ignore[attr-defined]
    waiting = subprocess.list2cmdline([sys.executable, "-I", "-S", ray_agent.__file__])
    return [f"{AGENT}{waiting}" if word.startswith(AGENT) else word for word in command]


AHEAD = "--num_prestart_python_workers="
"""A further option: the number of workers that it starts before anybody asks for one."""


def one_worker_ahead() -> AbstractContextManager[None]:
    """A cluster that is started meanwhile starts one worker ahead, and not one for each of its CPUs."""
    return _command_of_raylet(
        lambda command: [f"{AHEAD}1" if word.startswith(AHEAD) else word for word in command]
    )


def long_wait(seconds: float, ended: Callable[[], bool]) -> AbstractContextManager[None]:
    """Waits longer than Ray does for the node of a cluster that is started meanwhile.

    Args:
        ended: whether nobody waits any more.
    """
    from ray._private import services

    def patient(own: Any) -> Any:
        def found(*arguments: Any) -> Any:
            until = time.monotonic() + seconds
            while True:
                try:
                    return own(*arguments)
                except RuntimeError as error:  # it has not registered yet
                    if ended() or time.monotonic() >= until:
                        raise LateError(str(error)) from None
                time.sleep(LOOK)

        return found

    return _replacing(services, "get_node", patient)


def _command_of_raylet(change: Callable[[list[str]], list[str]]) -> AbstractContextManager[None]:
    """Changes the command that starts Ray's process for this node."""
    from ray._private import services

    def changed(own: Any) -> Any:
        def started(command: list[str], *given: Any, **options: Any) -> Any:
            raylet = any(word.startswith(AHEAD) for word in command)
            return own(change(command) if raylet else command, *given, **options)

        return started

    return _replacing(services, "start_ray_process", changed)


@contextmanager
def trials_without_environment() -> Iterator[None]:
    """Tune asks for no environment of their own for its trials, so that they run in workers started ahead.

    The variables that it sends are those of the driver, which the workers of a local cluster inherit.
    """
    from ray.tune.execution import class_cache

    with (
        _replacing(class_cache, "DEFAULT_ENV_VARS", lambda _: {}),
        _replacing(class_cache, "ENV_VARS_TO_PROPAGATE", lambda _: set()),
    ):
        yield


def callbacks_uncounted() -> AbstractContextManager[None]:
    """Tune does not count its callbacks for Ray's usage statistics.

    It would import the integration of every tracker that is installed, MLflow's among them, before it asks
    for the first worker.
    """
    from ray.air._internal import usage

    return _replacing(usage, "tag_callbacks", lambda _: lambda _callbacks: None)


def backend_starts_in(context: Callable[[], AbstractContextManager[None]]) -> AbstractContextManager[None]:
    """Opens a context around the start of this process's C++ backend."""
    from ray import _raylet  # compiled, so without types

    def within(own: Any) -> Any:
        def begun(*arguments: Any) -> Any:
            with context():
                return own(*arguments)

        return begun

    return _replacing(_raylet, "CoreWorker", within)


def errors_of_actors_as(change: Callable[[Exception], Exception]) -> AbstractContextManager[None]:
    """Changes the errors with which actors' tasks fail, before Tune looks at them."""
    from ray.air.execution._internal import RayActorManager

    def changed(own: Any) -> Any:
        def failed(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
            own(self, tracked_actor_task, change(exception))

        return failed

    return _replacing(RayActorManager, "_actor_task_failed", changed)


def lost_resets_as_losses() -> AbstractContextManager[None]:
    """Has Tune count the loss of an actor between two trials once, and start the second one again.

    Tune hears of one error from the actor and then from its task. It starts the trial again after the first,
    then takes the second for the failure of a trial that does not run, which ends it. It also goes on
    thinking that the actor gets ready for the trial, which therefore gets no other.
    """
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

    def changed(own: Any) -> Any:
        counted: Exception | None = None

        def failed(self: Any, trial: Trial, exception: Exception) -> None:
            nonlocal counted
            self._resetting_trials.discard(trial)
            if trial.status != Trial.PENDING or exception is not counted:
                counted = exception
                own(self, trial, exception)

        return failed

    return _replacing(TuneController, "_trial_task_failure", changed)


@contextmanager
def _replacing(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """An attribute is what `make` makes of it, for as long as the context is open."""
    own = getattr(owner, name)
    setattr(owner, name, make(own))
    try:
        yield
    finally:
        setattr(owner, name, own)
