"""Ranks of a sharded model as Ray actors, which may stand on several machines."""

from __future__ import annotations

import socket
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from softprior.models.rank import Job, Rank, replied
from softprior.models.ranks import Call, Limits, Member, RanksLostError, Reply


class Actors:
    """Ranks as actors, one in each bundle of a placement group, which says where they stand.

    Args:
        job: the model; every machine must have it in the same folder.
        group: a bundle for each rank, with its CPUs and its GPU.
    """

    def __init__(self, job: Job, group: PlacementGroup) -> None:
        self._job = job
        self._group = group
        self._actors: list[Any] = []
        self._answers: dict[int, Any] = {}

    def start(self, limits: Limits) -> None:
        self._actors = [
            ray.remote(_Actor)
            .options(
                num_cpus=bundle.get("CPU", 0),
                num_gpus=bundle.get("GPU", 0),
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._group, index),
            )
            .remote()
            for index, bundle in enumerate(self._group.bundle_specs)
        ]
        try:
            meeting = ray.get(self._actors[0].meeting.remote(), timeout=limits.loading)
        except (RayActorError, OutOfMemoryError, GetTimeoutError) as error:
            raise RanksLostError(
                f"rank 0 of the sharded model did not start ({type(error).__name__})"
            ) from None
        for rank, actor in enumerate(self._actors):
            member = Member(rank, len(self._actors), meeting, limits)
            self._answers[rank] = actor.load.remote(member, self._job)

    def send(self, rank: int, request: Call, seconds: float) -> None:  # noqa: ARG002  Ray takes it at once
        self._answers[rank] = self._actors[rank].answer.remote(request)

    def receive(self, waiting: set[int], seconds: float) -> dict[int, Reply]:
        asked = {self._answers[rank]: rank for rank in waiting}
        ready, _ = ray.wait(list(asked), timeout=seconds)
        found: dict[int, Reply] = {}
        for answer in ready:
            try:
                found[asked[answer]] = ray.get(answer)
            except (RayActorError, OutOfMemoryError):
                raise RanksLostError(
                    f"rank {asked[answer]} of the sharded model died, so all were ended"
                ) from None
        return found

    def end(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors, self._answers = [], {}


class _Actor:
    """A process of Ray's that becomes a rank."""

    def meeting(self) -> str:
        """An address of this machine where ranks of others reach this one."""
        with socket.socket() as free:
            free.bind(("", 0))
            return f"tcp://{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def load(self, member: Member, job: Job) -> Reply:
        def load() -> None:
            self._rank = Rank(member, job)

        return replied(load)

    def answer(self, request: Call) -> Reply:
        return self._rank.answer(request)
