"""A replica of the model: an actor of Ray's with a host inside, most often the local one.

It answers one question at a time, in turns between its clients, and losses of several clients go into one
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
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError
from torch import Tensor

from softprior.errors import HostLostError, UserError
from softprior.models.crossing import on_cpu, packed, unpacked
from softprior.models.protocol import FrozenLM, ModelInfo, Request, SiteStatistic, Where
from softprior.models.schedule import Call, Scheduler, Served

RESTARTS = 3
"""Deaths of a replica that one question outlives; if it dies again the question itself may be to blame."""

WAITING = 1000
"""Questions that a replica holds at a time. A trial asks one at a time, so there are no more than trials."""

MOMENT = 5.0
"""Seconds after which a replica that could not load its model again gives way to another try: what was in the
way may pass."""

LOOK = 5.0
"""Seconds between looks at whether a client is alive."""

Guard = AbstractContextManager[None]


class Client(NamedTuple):
    """Who asks.

    Attributes:
        id: of a trial's attempt.
        actor: the Ray actor it runs in, whose death a replica hears of; None outside of one.
    """

    id: str
    actor: Any


class Failure(NamedTuple):
    """An error as an answer: Ray would wrap it into one of its own, with a page of text."""

    error: Exception
    trace: str


class Fate(NamedTuple):
    """What has happened to a replica.

    Attributes:
        restarted: its process died, and this is another one.
        lost: times that this process's host was lost, as ranks of a sharded one are.
    """

    restarted: bool
    lost: int


class Replica:
    """A host behind a queue; becomes an actor through `start_replica`.

    Its coroutines only wait: the host works in the scheduler's thread. The model is loaded within the first
    question, not as the actor starts, which Ray would repeat for ever where the process dies of it.
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
        self._shared: tuple[str, Any] = ("", None)
        self._scheduler: Scheduler | None = None
        self._restarted = ray.get_runtime_context().was_current_actor_reconstructed

    async def ready(self) -> ModelInfo | Failure:
        """Waits for the model; what it is, or why there is none.

        A process whose predecessor had the model can load it, in the end. Where it fails or dies, the process
        ends with the question, which Ray repeats to a new one, up to `RESTARTS` times.
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
        """How many calls were answered in how many turns."""
        return Served(0, 0) if self._scheduler is None else self._scheduler.served

    async def followed(self) -> int:
        """How many clients it would hear the end of."""
        return len(self._followed)

    async def seat(self, client: Client, replicas: int) -> int:
        """Which of the replicas a client asks from now on: the first of those with fewest clients.

        The first replica decides for all, one client at a time. Started again it counts from new.
        """
        loads = Counter(self._seats.values())
        self._seats[client.id] = min(range(replicas), key=loads.__getitem__)
        self._follow(client)
        return self._seats[client.id]

    async def leave(self, client: Client) -> None:
        """Forgets a client and what it waits for."""
        self._gone(client.id)

    async def ask(self, client: Client, what: Request | str, arguments: tuple, keywords: dict) -> Any:
        """The host's answer, or a `Failure`; both ways packed."""
        info = await self.ready()
        if isinstance(info, Failure):
            return info
        assert self._scheduler is not None
        self._follow(client)
        what, arguments, keywords = unpacked((what, arguments, keywords))
        if what == "observe":
            *rest, statistic = arguments
            arguments = (*rest, _OnCpu(statistic))
        try:
            answer = await asyncio.wrap_future(
                self._scheduler.submit(Call(client.id, what, arguments, keywords))
            )
        except Exception as error:
            return Failure(error, traceback.format_exc())
        return answer.inner if isinstance(answer, _OnCpu) else packed(answer)

    async def embeddings(self, client: Client, ids: Int[Tensor, "T"]) -> list[Any] | Failure:
        """The object in Ray's store with the embeddings of many tokens, one for all who ask for the same."""
        key = hashlib.sha256(ids.numpy().tobytes()).hexdigest()
        if self._shared[0] != key:
            found = await self.ask(client, "embed", (ids,), {})
            if isinstance(found, Failure):
                return found
            self._shared = (key, ray.put(unpacked(found).numpy()))
        return [self._shared[1]]

    def _follow(self, client: Client) -> None:
        if client.actor is not None and client.id not in self._followed:
            self._followed[client.id] = asyncio.create_task(self._until_dead(client))

    async def _until_dead(self, client: Client) -> None:
        while True:
            try:
                await client.actor.__ray_ready__.remote()
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
    **options: Any,
) -> Any:
    """The handle of a new replica, which loads its model when first asked and is started again when it dies.

    Args:
        load: gives the host; runs in the replica's process.
        tokens: most positions of a pass.
        guard: gives a context for the replica's process to work in once it has its model.
        options: Ray's, such as resources.
    """
    actor = ray.remote(Replica).options(
        max_restarts=-1, max_task_retries=RESTARTS, max_concurrency=WAITING, **options
    )
    return actor.remote(load, tokens, guard)


def wait_for(replicas: Sequence[Any]) -> None:
    """Waits until replicas have their models.

    Raises:
        UserError: a model cannot be had, or a replica died.
    """
    try:
        for answer in ray.get([replica.ready.remote() for replica in replicas]):
            unwrapped(answer)
    except HostLostError as error:
        raise UserError(f"{error}; give it more memory, or run it again on another machine") from None
    except (RayActorError, OutOfMemoryError) as error:
        raise UserError(
            f"a replica of the model was ended before it had its model ({type(error).__name__}), for lack of "
            "memory perhaps; lower placement.replicas, or give it more memory"
        ) from None


def unwrapped(answer: Any) -> Any:
    """The answer, or the error that it is."""
    if isinstance(answer, Failure):
        raise answer.error from RuntimeError(f"in the replica:\n{answer.trace}")
    return answer


class _OnCpu:
    """A statistic fed in the CPU's memory: who gets it back may have no other device."""

    def __init__(self, inner: SiteStatistic) -> None:
        self.inner = inner

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:
        self.inner.update(site, states.cpu(), on_cpu(where))
