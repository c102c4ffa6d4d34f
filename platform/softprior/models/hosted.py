"""The hosted model: a client of replicas, which hold the weights."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray
import torch
from jaxtyping import Float, Int
from ray import ObjectRef
from ray.actor import ActorHandle, ActorMethod
from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError
from torch import Tensor

from softprior.errors import UserError
from softprior.liveness import waiting
from softprior.models.crossing import as_arrays, as_tensors
from softprior.models.protocol import Attention, Comparison, Losses, ModelInfo, Request, StatisticT
from softprior.models.rank_group import Limits
from softprior.models.replica import RESTARTS, Client, Replica, unwrapped
from softprior.prompt import Batch, Place, Prompt

PATIENCE = 600.0
"""Seconds without an answer after which a client checks whether the replica is alive."""

RELOADING = Limits().loading + 60
"""Seconds that a client waits for this check: a restarted replica has to load its model first, and the ranks
of a sharded model are given this long."""

CHUNK = 4096
"""Vectors per request, and the number of tokens from which embeddings are shared in memory."""


class HostedLM:
    """A frozen model in other processes; see `FrozenLM` for the contract.

    It is pickled as the replicas' handles. Each trial is a client of its own (`joined`) and always asks the
    same replica. A statistic given to `observe` is fed where the weights are, so use the one it returns.
    """

    def __init__(self, replicas: Sequence[ActorHandle[Replica]]) -> None:
        self._replicas = tuple(replicas)
        self._client = Client(uuid.uuid4().hex, _own_actor())
        self._seat: int | None = None
        self._facts: dict[str, Any] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return HostedLM, (self._replicas,)

    @contextmanager
    def joined(self) -> Iterator[HostedLM]:
        """A separate client, which leaves when the context ends."""
        client = HostedLM(self._replicas)
        try:
            yield client
        finally:
            client.leave()

    def leave(self) -> None:
        """Tells the replicas that this client is gone; they drop its pending requests."""
        if self._seat is not None:
            for seat in {0, self._seat}:
                self._replicas[seat].leave.remote(self._client)
        self._seat = None

    def info(self) -> ModelInfo:
        found: ModelInfo = self._known("info")
        return found

    def embed(self, ids: Int[Tensor, "T"]) -> Float[Tensor, "T H"]:
        if len(ids) < CHUNK:
            found: Tensor = self._ask("embed", ids)
            return found
        self._asked()
        first = self._replicas[0]  # whichever replica it sits at: one table for all clients
        for _ in range(RESTARTS):
            (shared,) = unwrapped(self._wait(first.embeddings.remote(self._client, ids.cpu()), first))
            try:
                return _readonly(ray.get(shared))
            except ObjectLostError:
                continue  # gone with the replica that made it
        raise self._lost()

    def width(self, place: Place) -> int:
        found: int = self._known("width", place)
        return found

    def normalise(self, place: Place, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
        return torch.cat([self._ask("normalise", place, part) for part in vectors.split(CHUNK)])

    def project(self, place: Place, states: Float[Tensor, "N H"]) -> Float[Tensor, "N D"]:
        return torch.cat([self._ask("project", place, part) for part in states.split(CHUNK)])

    def rotate(
        self, place: Place, keys: Float[Tensor, "P D"], *, inverse: bool = False
    ) -> Float[Tensor, "P D"]:
        found: Tensor = self._ask("rotate", place, keys, inverse=inverse)
        return found

    def loss(self, prompt: Prompt | None, batch: Batch, *, grad: bool = False) -> Losses:
        found: Losses = self._ask(Request(prompt, batch, grad))
        return found

    def generate(
        self, prompt: Prompt | None, batch: Batch, *, max_new: int, stop: frozenset[int]
    ) -> list[list[int]]:
        found: list[list[int]] = self._ask("generate", prompt, batch, max_new=max_new, stop=stop)
        return found

    def compare(self, a: Prompt | None, b: Prompt | None, batch: Batch) -> Comparison:
        found: Comparison = self._ask("compare", a, b, batch)
        return found

    def attention(self, prompt: Prompt | None, batch: Batch) -> Attention:
        found: Attention = self._ask("attention", prompt, batch)
        return found

    def sites(self) -> tuple[str, ...]:
        found: tuple[str, ...] = self._known("sites")
        return found

    def observe(
        self, prompt: Prompt | None, batch: Batch, sites: Sequence[str], statistic: StatisticT
    ) -> StatisticT:
        found: StatisticT = self._ask("observe", prompt, batch, list(sites), statistic)
        return found

    def prompt_states(
        self, prompt: Prompt, sites: Sequence[str], first: int | None = None
    ) -> dict[str, Float[Tensor, "_ H"]]:
        found: dict[str, Tensor] = self._ask("prompt_states", prompt, list(sites), first)
        return found

    def _known(self, name: str, *arguments: object) -> Any:
        """An answer that never changes, requested once."""
        key = repr((name, arguments))
        if key not in self._facts:
            self._facts[key] = self._ask(name, *arguments)
        return self._facts[key]

    def _ask(self, what: Request | str, *arguments: object, **keywords: object) -> Any:
        return as_tensors(self._result(self._asked().ask, *as_arrays((what, arguments, keywords))))

    def _asked(self) -> ActorHandle[Replica]:
        """The replica that this client asks, chosen at its first request."""
        if self._seat is None:
            count = len(self._replicas)
            first = self._replicas[0]
            self._seat = 0 if count == 1 else self._wait(first.seat.remote(self._client, count), first)
        return self._replicas[self._seat]

    def _result(self, method: ActorMethod, *arguments: object) -> Any:
        return unwrapped(self._wait(method.remote(self._client, *arguments), self._asked()))

    def _wait(self, answer: ObjectRef[Any], replica: ActorHandle[Replica]) -> Any:
        """What a call returns; Ray repeats it if the replica dies meanwhile."""
        try:
            with waiting():
                while not ray.wait([answer], timeout=PATIENCE)[0]:
                    if not ray.wait([replica.ready.remote()], timeout=RELOADING)[0]:
                        raise self._lost()
                return ray.get(answer)
        except (RayActorError, OutOfMemoryError):
            raise self._lost() from None
        except KeyboardInterrupt:
            ray.cancel(answer)
            raise

    def _lost(self) -> UserError:
        return UserError(
            f"the model's process died {RESTARTS + 1} times during one request, perhaps for lack of memory "
            f"or because resources.patience ran out, or was gone for {RELOADING / 60:g} minutes; lower "
            "placement.tokens, give it more memory, or raise resources.patience if that is set"
        )


def _own_actor() -> ActorHandle[Any] | None:
    """The Ray actor that this process runs; None if it runs none."""
    if not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    return context.current_actor if context.get_actor_id() else None


def _readonly(array: np.ndarray) -> Tensor:
    """An array in Ray's store as a tensor without a copy; it must not be written to, as it is shared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # which says just that
        return torch.from_numpy(array)
