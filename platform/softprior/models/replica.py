"""A replica of the model: a Ray actor with a host inside, usually the local one.

It answers one request at a time, taking turns between its clients, and losses of several clients go into one
pass (`softprior.models.schedule`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import ray
from jaxtyping import Float, Int
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError
from torch import Tensor

from softprior.errors import HostLostError, UserError
from softprior.models.crossing import as_arrays, as_tensors, on_cpu
from softprior.models.protocol import FrozenLM, ModelInfo, Request, SiteStatistic, Where
from softprior.models.schedule import Call, Scheduler, Served

RESTARTS = 3
"""Deaths of a replica that one request survives; if it dies again, the request itself may be the cause."""

WAITING = 1000
"""Maximum number of waiting requests. A trial makes one at a time, so there are no more than trials."""

MOMENT = 5.0
"""Seconds after which a restarted replica that could not load its model makes way for another attempt: the
obstacle may be temporary."""

LOOK = 5.0
"""Seconds between checks of whether a client is alive."""

Guard = AbstractContextManager[None]


class Client(NamedTuple):
    """The sender of requests.

    Attributes:
        id: of a trial's attempt.
        actor: the Ray actor it runs in, whose death a replica notices; None outside of one.
    """

    id: str
    actor: ActorHandle[Any] | None


class Failure(NamedTuple):
    """An error as an answer: Ray would wrap a raised one in its own, with a page of text."""

    error: Exception
    trace: str


class Fate(NamedTuple):
    """What has happened to a replica.

    Attributes:
        restarted: its process died, and this is another one.
        lost: number of times that this process's host was lost, as the ranks of a sharded one can be.
    """

    restarted: bool
    lost: int


class Replica:
    """A host behind a queue; becomes an actor through `start_replica`.

    Its coroutines only wait: the host works in the scheduler's thread. The model is loaded during the first
    request, not when the actor starts, which Ray would repeat forever if the process died of it.
    """

    def __init__(
        self, load: Callable[[], FrozenLM], tokens: int | None, guard: Callable[[], Guard] = nullcontext
    ) -> None:
        self._load = load
        self._tokens = tokens
        self._guard = guard()
        self._loading: asyncio.Future[ModelInfo | Failure] | None = None
        self._seats: dict[str, int] = {}
        self._followed: dict[str, asyncio.Task[None]] = {}
        self._shared: tuple[str, object] = ("", None)
        self._scheduler: Scheduler | None = None
        self._restarted = ray.get_runtime_context().was_current_actor_reconstructed

    async def ready(self) -> ModelInfo | Failure:
        """Waits for the model; returns its info, or the failure to load it.

        A process whose predecessor had the model can load it eventually. If it fails or dies, the process
        ends during the request, which Ray repeats in a new one, up to `RESTARTS` times.
        """
        if self._loading is None:
            self._loading = asyncio.ensure_future(asyncio.to_thread(self._loaded))
        info = await asyncio.shield(self._loading)
        if self._restarted and isinstance(info, Failure) and not isinstance(info.error, UserError):
            await asyncio.sleep(MOMENT)
            os._exit(1)
        return info

    def _loaded(self) -> ModelInfo | Failure:
        try:
            host = self._load()
            self._scheduler = Scheduler(host, self._tokens)
            self._guard.__enter__()  # for as long as the process lives
            return host.info()
        except Exception as error:  # of any kind: it is an answer
            return Failure(error, traceback.format_exc())

    async def fate(self) -> Fate:
        """What has happened to it so far."""
        return Fate(self._restarted, 0 if self._scheduler is None else self._scheduler.lost)

    async def served(self) -> Served:
        """How many calls have been answered, and in how many turns."""
        return Served(0, 0) if self._scheduler is None else self._scheduler.served

    async def followed(self) -> int:
        """Number of clients whose death it would notice."""
        return len(self._followed)

    async def seat(self, client: Client, replicas: int) -> int:
        """Which of the replicas a client asks from now on: the first of those with fewest clients.

        The first replica decides for all, one client at a time. After a restart it counts anew.
        """
        loads = Counter(self._seats.values())
        self._seats[client.id] = min(range(replicas), key=loads.__getitem__)
        self._follow(client)
        return self._seats[client.id]

    async def leave(self, client: Client) -> None:
        """Forgets a client and its pending requests."""
        self._gone(client.id)

    async def ask(
        self, client: Client, what: Request | str, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        """The host's answer, or a `Failure`; packed in both directions."""
        info = await self.ready()
        if isinstance(info, Failure):
            return info
        assert self._scheduler is not None
        self._follow(client)
        what, arguments, keywords = as_tensors((what, arguments, keywords))
        if what == "observe":
            *rest, statistic = arguments
            arguments = (*rest, _OnCpu(statistic))
        try:
            answer = await asyncio.wrap_future(
                self._scheduler.submit(Call(client.id, what, arguments, keywords))
            )
        except Exception as error:
            return Failure(error, traceback.format_exc())
        return answer.inner if isinstance(answer, _OnCpu) else as_arrays(answer)

    async def embeddings(self, client: Client, ids: Int[Tensor, "T"]) -> list[object] | Failure:
        """The object in Ray's store with the embeddings of many tokens, shared by all clients that ask."""
        key = hashlib.sha256(ids.numpy().tobytes()).hexdigest()
        if self._shared[0] != key:
            found = await self.ask(client, "embed", (ids,), {})
            if isinstance(found, Failure):
                return found
            self._shared = (key, ray.put(as_tensors(found).numpy()))
        return [self._shared[1]]

    def _follow(self, client: Client) -> None:
        if client.actor is not None and client.id not in self._followed:
            self._followed[client.id] = asyncio.create_task(self._until_dead(client, client.actor))

    async def _until_dead(self, client: Client, actor: ActorHandle[Any]) -> None:
        while True:
            try:
                await actor.__ray_ready__.remote()
            except (ActorDiedError, OutOfMemoryError):
                self._followed.pop(client.id, None)
                self._gone(client.id)
                return
            except RayActorError:
                pass  # nobody answers at the moment
            await asyncio.sleep(LOOK)

    def _gone(self, client: str) -> None:
        self._seats.pop(client, None)
        if self._scheduler is not None:
            self._scheduler.drop(client)
        following = self._followed.pop(client, None)
        if following is not None:
            following.cancel()


def start_replica(
    load: Callable[[], FrozenLM],
    tokens: int | None,
    guard: Callable[[], Guard] = nullcontext,
    **options: object,
) -> ActorHandle[Replica]:
    """The handle of a new replica, which loads its model when first asked and is restarted when it dies.

    Args:
        load: returns the host; runs in the replica's process.
        tokens: maximum number of positions per pass.
        guard: returns a context for the replica's process to work in once it has its model.
        options: Ray's, such as resources.
    """
    actor = ray.remote(Replica).options(
        max_restarts=-1, max_task_retries=RESTARTS, max_concurrency=WAITING, **options
    )
    handle: ActorHandle[Replica] = actor.remote(load, tokens, guard)  # type: ignore[assignment]
    return handle


def wait_for(replicas: Sequence[ActorHandle[Replica]]) -> None:
    """Waits until replicas have their models.

    Raises:
        UserError: a model is not available, or a replica died.
    """
    try:
        asked: list[ObjectRef[ModelInfo | Failure]] = [replica.ready.remote() for replica in replicas]
        for answer in ray.get(asked):
            unwrapped(answer)
    except HostLostError as error:
        raise UserError(f"{error}; give it more memory, or run it again on another machine") from None
    except (RayActorError, OutOfMemoryError) as error:
        raise UserError(
            f"a replica of the model died before it had loaded the weights ({type(error).__name__}), perhaps "
            "for lack of memory; lower placement.replicas, or give it more memory"
        ) from None


def unwrapped(answer: Any) -> Any:
    """The answer; raises the error if it is a `Failure`."""
    if isinstance(answer, Failure):
        raise answer.error from RuntimeError(f"in the replica:\n{answer.trace}")
    return answer


class _OnCpu:
    """A statistic fed in CPU memory: the client that gets it back may have no other device."""

    def __init__(self, inner: SiteStatistic) -> None:
        self.inner = inner

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:
        self.inner.update(site, states.cpu(), on_cpu(where))
