"""Who holds the frozen model: each trial its own, or replicas for all of them.

The resources of a trial, and where its host comes from, are decided only here.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from softprior.assets.tokens import Tokenizer
from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.inputs.specs import ModelSpec, PlacementSpec, ResourcesSpec, StudySpec
from softprior.results.storage import Location
from softprior.studies.watchdog import remove_if_empty, watched

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from softprior.models.hosted import HostedLM
    from softprior.models.protocol import FrozenLM
    from softprior.models.replica import Fate, Replica

logger = logging.getLogger(__name__)

CLIENT_CPUS = 0.1
"""Resources of a trial whose model is elsewhere: it waits most of the time."""

MOMENT = 5.0
"""Seconds that a replica has to report what has happened to it."""

CLIENTS = 4
"""Trials a replica serves at a time unless `resources.concurrent` says otherwise: enough that some always
wait, so that passes are full and the model is never idle."""


def shared(placement: PlacementSpec) -> bool:
    """Whether trials share replicas of the model."""
    return placement.hosts == "shared"


def concurrent(resources: ResourcesSpec, placement: PlacementSpec) -> int | None:
    """Largest number of trials at a time; None leaves it to the resources."""
    return resources.concurrent or (CLIENTS * placement.replicas if shared(placement) else None)


def trial_resources(resources: ResourcesSpec, placement: PlacementSpec) -> dict[str, float]:
    """The resources that one trial requests from Ray."""
    if shared(placement):
        return {"cpu": CLIENT_CPUS}
    return {"cpu": resources.cpus, "gpu": resources.gpus}


def trial_threads(resources: ResourcesSpec, placement: PlacementSpec) -> int:
    """Threads of a trial's own process."""
    return 1 if shared(placement) else resources.cpus


def placed_model(study: StudySpec) -> ModelSpec:
    """The study's model, on the device of the process that holds it."""
    model = study.model
    gpus = study.placement.gpus if shared(study.placement) else study.resources.gpus
    if model.device == "auto" and not gpus:
        return model.model_copy(update={"device": "cpu"})  # a GPU nobody asked for may be somebody else's
    return model


def logical_cpus(resources: ResourcesSpec, placement: PlacementSpec) -> int | None:
    """CPUs of a cluster of our own on this machine; None leaves it to Ray.

    Replicas may take all CPUs the machine has, and clients, which mostly wait, come on top.
    """
    if not shared(placement):
        return None
    return machine_cpus() + math.ceil(CLIENT_CPUS * (concurrent(resources, placement) or 0))


def require_room(nodes: list[dict[str, float]], resources: ResourcesSpec, placement: PlacementSpec) -> None:
    """Checks that the nodes Ray reports have what a study needs at once.

    Raises:
        UserError: no node has what one trial or one replica asks for, or all together lack room.
    """
    own = shared(placement)
    cpus, gpus = (placement.cpus, placement.gpus) if own else (resources.cpus, resources.gpus)
    fits = [n for n in nodes if n.get("CPU", 0) >= cpus and n.get("GPU", 0) >= gpus]
    if not fits:
        best: dict[str, float] = max(nodes, key=lambda n: (n.get("GPU", 0), n.get("CPU", 0)), default={})
        what, key = ("a replica of the model", "placement") if own else ("a trial or worker", "resources")
        raise UserError(
            f"{what} asks for {_units(cpus, gpus)}, but the largest node has "
            f"{best.get('CPU', 0):g} and {best.get('GPU', 0):g}; lower {key}.cpus or {key}.gpus"
        )
    if own:
        need = placement.replicas * placement.cpus + CLIENT_CPUS
        there = sum(n.get("CPU", 0) for n in nodes)
        chips = sum(n.get("GPU", 0) for n in nodes)
        if need > there or placement.replicas * gpus > chips:
            raise UserError(
                f"{counted(placement.replicas, 'replica')} of the model and one trial ask for "
                f"{_units(need, placement.replicas * gpus)}, but the cluster has {there:g} and {chips:g}; "
                "lower placement.replicas or placement.cpus"
            )
        copies = room(nodes, resources, placement)
        if copies < placement.replicas:
            raise UserError(
                f"a replica of the model must fit on one node with its {_units(cpus, gpus)}, but the nodes "
                f"have room for {copies} of {placement.replicas}; lower placement.replicas or placement.cpus"
            )


def _units(cpus: float, gpus: float) -> str:
    """The requested resources in words."""
    return f"{counted(cpus, 'CPU')} and {counted(gpus, 'GPU')}"


def room(nodes: list[dict[str, float]], resources: ResourcesSpec, placement: PlacementSpec) -> int:
    """Number of replicas of a shared model, or of trials with their own, that fit on all nodes at a time."""
    held = placement if shared(placement) else resources
    asked = {"CPU": held.cpus, "GPU": held.gpus}
    # A tenth of a GPU goes ten times into one, whatever binary fractions make of it.
    return sum(
        min(math.floor(node.get(name, 0) / count + 1e-9) for name, count in asked.items() if count)
        for node in nodes
    )


def machine_cpus() -> int:
    """CPUs as Ray counts them: the machine's, or those that a container is limited to."""
    limit = Path("/sys/fs/cgroup/cpu.max")
    words = limit.read_text(encoding="utf-8").split() if limit.is_file() else []
    machine = os.cpu_count() or 1
    return max(1, int(words[0]) // int(words[1])) if words and words[0].isdigit() else machine


class SharedModel(NamedTuple):
    """What trials on shared replicas work with: they need neither the model's files nor its code."""

    host: HostedLM
    tokenizer: Tokenizer


@contextmanager
def replicas(study: StudySpec, stalls: Location | None = None) -> Iterator[SharedModel | None]:
    """The study's shared model, ready to answer, for as long as the context lasts; None without one.

    Args:
        stalls: where replicas that hang leave the stacks of their threads; None to let them hang.

    Raises:
        UserError: the model is not available.
    """
    placement = study.placement
    if not shared(placement):
        yield None
        return
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    from softprior.models.hosted import HostedLM
    from softprior.models.load import load_tokenizer
    from softprior.models.replica import start_replica, wait_for
    from softprior.training.threads import thread_environment

    asked: dict[str, float] = {"CPU": placement.cpus}
    asked |= {"GPU": placement.gpus} if placement.gpus else {}
    group = placement_group([dict(asked) for _ in range(placement.replicas)])
    guard = nullcontext if stalls is None else partial(watched, study.resources.patience, stalls, _answering)
    started: list[ActorHandle[Replica]] = []
    try:
        while not group.wait(60):
            # A cluster that grows may take minutes; one that is in use, until others have ended.
            logger.warning(
                "waiting for the cluster to have room for %d replicas of the model, %d CPUs and %g GPUs each",
                placement.replicas,
                placement.cpus,
                placement.gpus,
            )
        for index in range(placement.replicas):
            started.append(
                start_replica(
                    partial(_load, placed_model(study), placement),
                    placement.tokens,
                    guard,
                    num_cpus=placement.cpus,
                    num_gpus=placement.gpus,
                    scheduling_strategy=PlacementGroupSchedulingStrategy(
                        group, placement_group_bundle_index=index
                    ),
                    runtime_env={"env_vars": thread_environment(placement.cpus)},
                )
            )
        wait_for(started)
        yield SharedModel(HostedLM(started), load_tokenizer(study.model).tokenizer)
    finally:
        _tell_losses(started)
        for replica in started:
            ray.kill(replica)
        remove_placement_group(group)
        if stalls is not None:
            remove_if_empty(stalls)


def _tell_losses(replicas: list[ActorHandle[Replica]]) -> None:
    """Logs which replicas did not survive the study: trials had to wait, but were not harmed otherwise."""
    import ray

    for number, replica in enumerate(replicas):
        try:
            asked: ray.ObjectRef[Fate] = replica.fate.remote()
            fate = ray.get(asked, timeout=MOMENT)
        except ray.exceptions.RayError:
            continue  # it is gone, and its trials have said so
        if fate.restarted:
            logger.warning("replica %d of the model was lost and started again", number)
        if fate.lost:
            logger.warning("ranks of replica %d were lost and started again %d times", number, fate.lost)


def _answering() -> str:
    return "answering trials"


def _load(model: ModelSpec, placement: PlacementSpec) -> FrozenLM:
    if placement.ranks > 1:
        from softprior.models.sharded import load_sharded

        return load_sharded(model, placement.ranks, threads=max(1, placement.cpus // placement.ranks))
    from softprior.models.load import load_local

    return load_local(model).host


class TrialHost(NamedTuple):
    """What a trial works with.

    Attributes:
        fingerprint: of weights and tokenizer.
    """

    host: FrozenLM
    tokenizer: Tokenizer
    fingerprint: str


@contextmanager
def host_of(model: ModelSpec, shared: SharedModel | None) -> Iterator[TrialHost]:
    """The model for one trial: this process's own, or a client of replicas that hold it.

    Raises:
        UserError: the model is not available.
    """
    if shared is None:
        from softprior.models.load import load_local

        yield TrialHost(*load_local(model))
        return
    with shared.host.joined() as client:
        yield TrialHost(client, shared.tokenizer, client.info().fingerprint)
