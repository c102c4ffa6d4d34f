"""What softprior uses of Ray's private parts, all of it; checked on Ray 2.60.0.

None of it is promised to stay. `tests/test_private_parts.py` says which part another version has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

TEMPORARY = "_temp_dir"
"""Option of `ray.init`: the folder of sessions, in place of one below a temporary folder with a long path."""

LATE, PATIENCE = "timed out during startup", 30
"""What Ray says of a node of its own that did not start, and the seconds it waits: no option changes them."""


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
    """A cluster that is started meanwhile has no autoscaler, dashboard or log monitor.

    Each is a process that takes a second or two of a processor to start, and Ray waits for the dashboard.
    """
    from ray._private.node import Node

    with ExitStack() as stack:
        for name in ("start_monitor", "start_api_server", "start_log_monitor"):
            stack.enter_context(_replacing(Node, name, lambda _: _nothing))
        yield


def _nothing(node: Any, **options: Any) -> None:
    """In place of a method that starts a process."""


AHEAD = "--num_prestart_python_workers="
"""Option of Ray's process for this node: the number of workers that it starts before anybody asks for one."""


def one_worker_ahead() -> AbstractContextManager[None]:
    """A cluster that is started meanwhile starts one worker ahead, and not one for each of its CPUs."""
    from ray._private import services

    def one(own: Any) -> Any:
        def started(command: list[str], *given: Any, **options: Any) -> Any:
            words = [f"{AHEAD}1" if word.startswith(AHEAD) else word for word in command]
            return own(words, *given, **options)

        return started

    return _replacing(services, "start_ray_process", one)


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
