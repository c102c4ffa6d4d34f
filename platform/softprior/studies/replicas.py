"""The replicas that hold the frozen model for all trials of a study: they start before it and end with it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from softprior.inputs.specs import ModelSpec, PlacementSpec
from softprior.results.storage import Location
from softprior.studies.hosts import SharedModel
from softprior.studies.placement import has_shared_hosts
from softprior.studies.watchdog import remove_if_empty, watched

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.util.placement_group import PlacementGroup

    from softprior.models.protocol import FrozenLM
    from softprior.models.replica import Fate, Replica

logger = logging.getLogger(__name__)

MOMENT = 5.0
"""Seconds that a replica has to report what has happened to it."""


@contextmanager
def replicas(
    model: ModelSpec, placement: PlacementSpec, patience: float | None = None, stalls: Location | None = None
) -> Iterator[SharedModel | None]:
    """A study's shared model, ready to answer, for as long as the context lasts; None without one.

    Args:
        model: see `placed_model`.
        patience: minutes, see `ResourcesSpec`.
        stalls: where replicas that hang leave the stacks of their threads; None to let them hang.

    Raises:
        UserError: the model is not available.
    """
    if not has_shared_hosts(placement):
        yield None
        return
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    from softprior.models.hosted import HostedLM
    from softprior.models.load import load_tokenizer
    from softprior.models.replica import start_replica, wait_for
    from softprior.training.threads import thread_environment

    group = placement_group([_asked(placement) for _ in range(placement.replicas)])
    guard = nullcontext if stalls is None else partial(watched, patience, stalls, _answering)
    started: list[ActorHandle[Replica]] = []
    try:
        _wait_for_room(group, placement)
        for index in range(placement.replicas):
            started.append(
                start_replica(
                    partial(_load, model, placement),
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
        yield SharedModel(HostedLM(started), load_tokenizer(model).tokenizer)
    finally:
        _tell_losses(started)
        for replica in started:
            ray.kill(replica)
        remove_placement_group(group)
        if stalls is not None:
            remove_if_empty(stalls)


def _asked(placement: PlacementSpec) -> dict[str, float]:
    """What one replica asks for."""
    asked: dict[str, float] = {"CPU": placement.cpus}
    return asked | ({"GPU": placement.gpus} if placement.gpus else {})


def _wait_for_room(group: PlacementGroup, placement: PlacementSpec) -> None:
    while not group.wait(60):
        # A cluster that grows may take minutes; one that is in use, until others have ended.
        logger.warning(
            "waiting for the cluster to have room for %d replicas of the model, %d CPUs and %g GPUs each",
            placement.replicas,
            placement.cpus,
            placement.gpus,
        )


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
