"""What a study occupies: resources of a trial or of a shared model, and whether nodes have room for them."""

from __future__ import annotations

import math
import os
from pathlib import Path

from softprior.errors import UserError
from softprior.inputs.labels import counted
from softprior.inputs.specs import ModelSpec, PlacementSpec, ResourcesSpec

CLIENT_CPUS = 0.1
"""Resources of a trial whose model is elsewhere: it waits most of the time."""

RAYS_OWN = ("RAY_OVERRIDE_RESOURCES", "RAY_USE_MULTIPROCESSING_CPU_COUNT")
"""Variables by which Ray takes a machine to have other CPUs."""

CLIENTS = 4
"""Trials a replica serves at a time unless `resources.concurrent` says otherwise: enough that some always
wait, so that passes are full and the model is never idle."""


def has_shared_hosts(placement: PlacementSpec) -> bool:
    """Whether trials share replicas of the model."""
    return placement.hosts == "shared"


def concurrent(resources: ResourcesSpec, placement: PlacementSpec) -> int | None:
    """Largest number of trials at a time; None leaves it to the resources."""
    return resources.concurrent or (CLIENTS * placement.replicas if has_shared_hosts(placement) else None)


def trial_resources(resources: ResourcesSpec, placement: PlacementSpec) -> dict[str, float]:
    """The resources that one trial requests from Ray."""
    if has_shared_hosts(placement):
        return {"cpu": CLIENT_CPUS}
    return {"cpu": resources.cpus, "gpu": resources.gpus}


def trial_threads(resources: ResourcesSpec, placement: PlacementSpec) -> int:
    """Threads of a trial's own process."""
    return 1 if has_shared_hosts(placement) else resources.cpus


def placed_model(model: ModelSpec, resources: ResourcesSpec, placement: PlacementSpec) -> ModelSpec:
    """A study's model, on the device of the process that holds it."""
    gpus = placement.gpus if has_shared_hosts(placement) else resources.gpus
    if model.device == "auto" and not gpus:
        return model.model_copy(update={"device": "cpu"})  # a GPU nobody asked for may be somebody else's
    return model


def logical_cpus(resources: ResourcesSpec, placement: PlacementSpec) -> int | None:
    """CPUs of a cluster of our own on this machine; None leaves it to Ray.

    Replicas may take all CPUs the machine has, and clients, which mostly wait, come on top.
    """
    if not has_shared_hosts(placement):
        return None
    return machine_cpus() + math.ceil(CLIENT_CPUS * (concurrent(resources, placement) or 0))


def require_units(resources: ResourcesSpec, placement: PlacementSpec) -> None:
    """Checks that this machine, before Ray has started on it, has the CPUs and GPUs of one trial or replica.

    Where Ray has been told of other resources than the machine has, it is left to Ray.

    Raises:
        UserError: it has fewer.
    """
    if any(name in os.environ for name in RAYS_OWN):
        return
    own = has_shared_hosts(placement)
    what, key = ("a replica of the model", "placement") if own else ("a trial or worker", "resources")
    cpus, gpus = (placement.cpus, placement.gpus) if own else (resources.cpus, resources.gpus)
    if cpus > machine_cpus():
        raise UserError(
            f"{what} asks for {counted(cpus, 'CPU')}, but this machine has {machine_cpus()}; lower {key}.cpus"
        )
    if gpus:
        import torch

        if gpus > (found := torch.cuda.device_count()):
            raise UserError(
                f"{what} asks for {counted(gpus, 'GPU')}, but torch sees {found} on this machine; lower "
                f"{key}.gpus, or set RAY_ADDRESS to a cluster with GPUs"
            )


def require_room(nodes: list[dict[str, float]], resources: ResourcesSpec, placement: PlacementSpec) -> None:
    """Checks that the nodes Ray reports have what a study needs at once.

    Raises:
        UserError: no node has what one trial or one replica asks for, or all together lack room.
    """
    own = has_shared_hosts(placement)
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
    held = placement if has_shared_hosts(placement) else resources
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
