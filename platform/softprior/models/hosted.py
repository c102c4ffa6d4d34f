"""The hosted model: replicas hold the weights, trials are clients without any.

A replica is a Ray actor with a host inside, most often the local one. It answers one question at a time,
in turns between its clients, and losses of several clients go into one pass (`softprior.models.schedule`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import traceback
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import ray
import torch
from jaxtyping import Float, Int
from ray.exceptions import ActorDiedError, ObjectLostError, OutOfMemoryError, RayActorError
from torch import Tensor

from softprior.errors import HostLostError, UserError
from softprior.liveness import waiting
from softprior.models.crossing import on_cpu, sent
from softprior.models.protocol import (
    Comparison,
    FrozenLM,
    Losses,
    ModelInfo,
    Request,
    SiteStatistic,
    StatisticT,
    Where,
)
from softprior.models.ranks import Limits
from softprior.models.schedule import Call, Scheduler, Served
from softprior.prompt import Batch, Place, Prompt

RESTARTS = 3
"""Deaths of a replica that one question outlives; if it dies again the question itself may be to blame."""

WAITING = 1000
"""Questions that a replica holds at a time. A trial asks one at a time, so there are no more than trials."""

PATIENCE = 600.0
"""Seconds without an answer after which a client asks whether anybody is there."""

RELOADING = Limits().loading + 60
"""Seconds that a client waits for that: to be started again a replica has to load its model, and ranks of a
sharded one are given so long."""

MOMENT = 5.0
"""Seconds after which a replica that could not load its model again gives way to another try: what was in the
way may pass."""

LOOK = 5.0
"""Seconds between looks at whether a client is alive."""

CHUNK = 4096
"""Vectors of one question, and tokens from which embeddings are shared in memory."""


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
        """The host's answer, or a `Failure`."""
        info = await self.ready()
        if isinstance(info, Failure):
            return info
        assert self._scheduler is not None
        self._follow(client)
        if what == "observe":
            *rest, statistic = arguments
            arguments = (*rest, _OnCpu(statistic))
        try:
            answer = await asyncio.wrap_future(
                self._scheduler.submit(Call(client.id, what, arguments, keywords))
            )
        except Exception as error:
            return Failure(error, traceback.format_exc())
        return answer.inner if isinstance(answer, _OnCpu) else on_cpu(answer)

    async def embeddings(self, client: Client, ids: Int[Tensor, "T"]) -> list[Any] | Failure:
        """The object in Ray's store with the embeddings of many tokens, one for all who ask for the same."""
        key = hashlib.sha256(ids.numpy().tobytes()).hexdigest()
        if self._shared[0] != key:
            found = await self.ask(client, "embed", (ids,), {})
            if isinstance(found, Failure):
                return found
            self._shared = (key, ray.put(found.numpy()))
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
            _unwrapped(answer)
    except HostLostError as error:
        raise UserError(f"{error}; give it more memory, or run it again on another machine") from None
    except (RayActorError, OutOfMemoryError) as error:
        raise UserError(
            f"a replica of the model was ended before it had its model ({type(error).__name__}), for lack of "
            "memory perhaps; lower placement.replicas, or give it more memory"
        ) from None


class HostedLM:
    """A frozen model in other processes; see `FrozenLM` for the contract.

    Pickled, it is the replicas' handles. Each trial asks as a client of its own (`joined`), always the same
    replica. A statistic given to `observe` is fed beside the weights, so the one returned counts.
    """

    def __init__(self, replicas: Sequence[Any]) -> None:
        self._replicas = tuple(replicas)
        self._client = Client(uuid.uuid4().hex, _own_actor())
        self._seat: int | None = None
        self._facts: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return HostedLM, (self._replicas,)

    @contextmanager
    def joined(self) -> Iterator[HostedLM]:
        """A client of its own, which leaves at the end."""
        client = HostedLM(self._replicas)
        try:
            yield client
        finally:
            client.leave()

    def leave(self) -> None:
        """Tells the replicas that this client is gone; they forget what it waits for."""
        if self._seat is not None:
            for seat in {0, self._seat}:
                self._replicas[seat].leave.remote(self._client)
        self._seat = None

    def info(self) -> ModelInfo:
        return self._known("info")

    def embed(self, ids: Int[Tensor, "T"]) -> Float[Tensor, "T H"]:
        if len(ids) < CHUNK:
            return self._ask("embed", ids.cpu())
        self._asked()
        first = self._replicas[0]  # whichever replica it sits at: one table for all clients
        for _ in range(RESTARTS):
            (shared,) = _unwrapped(self._wait(first.embeddings.remote(self._client, ids.cpu()), first))
            try:
                return _readonly(ray.get(shared))
            except ObjectLostError:
                continue  # gone with the replica that made it
        raise self._lost()

    def width(self, place: Place) -> int:
        return self._known("width", place)

    def normalise(self, place: Place, vectors: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
        return torch.cat([self._ask("normalise", place, part) for part in vectors.cpu().split(CHUNK)])

    def project(self, place: Place, states: Float[Tensor, "N H"]) -> Float[Tensor, "N D"]:
        return torch.cat([self._ask("project", place, part) for part in states.cpu().split(CHUNK)])

    def rotate(
        self, place: Place, keys: Float[Tensor, "P D"], *, inverse: bool = False
    ) -> Float[Tensor, "P D"]:
        return self._ask("rotate", place, keys.cpu(), inverse=inverse)

    def keys_values(
        self, ids: Int[Tensor, "T"], blocks: Sequence[int]
    ) -> dict[int, tuple[Float[Tensor, "T D"], Float[Tensor, "T D"]]]:
        return self._ask("keys_values", ids.cpu(), blocks)

    def loss(self, prompt: Prompt | None, batch: Batch, *, grad: bool = False) -> Losses:
        return self._ask(Request(sent(prompt), batch, grad))

    def generate(
        self, prompt: Prompt | None, batch: Batch, *, max_new: int, stop: frozenset[int]
    ) -> list[list[int]]:
        return self._ask("generate", sent(prompt), batch, max_new=max_new, stop=stop)

    def compare(self, a: Prompt | None, b: Prompt | None, batch: Batch) -> Comparison:
        return self._ask("compare", sent(a), sent(b), batch)

    def sites(self) -> tuple[str, ...]:
        return self._known("sites")

    def observe(
        self, prompt: Prompt | None, batch: Batch, sites: Sequence[str], statistic: StatisticT
    ) -> StatisticT:
        return self._ask("observe", sent(prompt), batch, list(sites), statistic)

    def _known(self, name: str, *arguments: Any) -> Any:
        """An answer that never changes, asked for once."""
        key = repr((name, arguments))
        if key not in self._facts:
            self._facts[key] = self._ask(name, *arguments)
        return self._facts[key]

    def _ask(self, what: Request | str, *arguments: Any, **keywords: Any) -> Any:
        return self._result(self._asked().ask, what, arguments, keywords)

    def _asked(self) -> Any:
        """The replica this client asks, chosen with its first question."""
        if self._seat is None:
            count = len(self._replicas)
            first = self._replicas[0]
            self._seat = 0 if count == 1 else self._wait(first.seat.remote(self._client, count), first)
        return self._replicas[self._seat]

    def _result(self, method: Any, *arguments: Any) -> Any:
        return _unwrapped(self._wait(method.remote(self._client, *arguments), self._asked()))

    def _wait(self, answer: Any, replica: Any) -> Any:
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
            f"the process that holds the model died {RESTARTS + 1} times during one request, for lack of "
            f"memory or of patience perhaps, or was gone for {RELOADING / 60:g} minutes; lower "
            "placement.tokens, give it more memory, or raise resources.patience if it has a limit"
        )


def _unwrapped(answer: Any) -> Any:
    """The answer, or the error that it is."""
    if isinstance(answer, Failure):
        raise answer.error from RuntimeError(f"in the replica:\n{answer.trace}")
    return answer


def _own_actor() -> Any:
    """The Ray actor that this process is; None if it is none."""
    if not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    return context.current_actor if context.get_actor_id() else None


class _OnCpu:
    """A statistic fed in the CPU's memory: who gets it back may have no other device."""

    def __init__(self, inner: SiteStatistic) -> None:
        self.inner = inner

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:
        self.inner.update(site, states.cpu(), on_cpu(where))


def _readonly(array: Any) -> Tensor:
    """An array of Ray's store as a tensor without a copy; nobody may write to it, as several have it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # which says just that
        return torch.from_numpy(array)
