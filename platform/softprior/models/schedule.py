"""Decides who is served next when several trials ask one host, and what goes into one pass."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from softprior.errors import HostLostError, UserError
from softprior.liveness import alive, waiting
from softprior.models.passes import positions, shape
from softprior.models.protocol import FrozenLM, PackingLM, Request

SHARE = 0.25
"""How long to wait for the clients just served, as a share of the last answer's time. A trial asks again as
soon as it has made its step, and without the wait two groups of trials would alternate, each with half a
pass."""

LONGEST = 0.1
"""Maximum of this wait, in seconds."""

REPEATS = 3
"""Number of times that a call is repeated after its host was lost; then the call itself may be the cause."""


@dataclass
class Call:
    """One request to a host.

    Attributes:
        client: who asks.
        what: a loss, or the name of another method of `FrozenLM`.
        arguments, keywords: of that method.
        answer: where the answer goes.
    """

    client: str
    what: Request | str
    arguments: tuple[object, ...] = ()
    keywords: dict[str, object] = field(default_factory=dict)
    answer: Future[object] = field(default_factory=Future)


class Waiting:
    """Pending calls. Clients are served in turn, each with its oldest call."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Call]] = {}
        """By client, in the order of their turns."""

    def __bool__(self) -> bool:
        return bool(self._queues)

    def add(self, call: Call) -> None:
        """Adds a call after its client's others; a client without any gets the last turn."""
        self._queues.setdefault(call.client, deque()).append(call)

    def drop(self, client: str) -> None:
        """Forgets all calls of a client."""
        for call in self._queues.pop(client, ()):
            call.answer.cancel()

    def clients(self) -> set[str]:
        """The clients that have a call waiting."""
        return set(self._queues)

    def positions(self) -> int:
        """Positions of the losses among each client's next calls."""
        return sum(positions(q[0].what) for q in self._queues.values() if isinstance(q[0].what, Request))

    def take(self, tokens: int | None, together: bool) -> list[Call]:
        """The call whose turn it is; with a loss, those of other clients that fit the same pass.

        Args:
            tokens: maximum number of positions per pass.
            together: whether the host takes several losses at once.
        """
        first, *others = self._queues
        chosen = [first]
        lead = self._queues[first][0].what
        if together and isinstance(lead, Request):
            used, kind = positions(lead), shape(lead)
            for client in others:
                other = self._queues[client][0].what
                if not isinstance(other, Request) or shape(other) != kind:
                    continue
                if tokens is None or used + positions(other) <= tokens:
                    chosen.append(client)
                    used += positions(other)
        return [self._served(client) for client in chosen]

    def _served(self, client: str) -> Call:
        queue = self._queues.pop(client)
        call = queue.popleft()
        if queue:
            self._queues[client] = queue
        return call


class Served(NamedTuple):
    """What a scheduler has done so far.

    Attributes:
        calls: calls answered, failed, or being answered.
        turns: times the host was asked; a turn answers several losses where they fit one pass.
    """

    calls: int
    turns: int


class Scheduler:
    """Asks a host for several clients, in its own thread: hosts take one request at a time."""

    def __init__(self, host: FrozenLM, tokens: int | None) -> None:
        self._host = host
        self._tokens = tokens
        self._waiting = Waiting()
        self._changed = threading.Condition()
        self._last: set[str] = set()
        self._began = self._answered = time.monotonic()
        self.served = Served(0, 0)
        self.lost = 0
        """Times that the host was lost."""
        threading.Thread(target=self._serve, name="host", daemon=True).start()

    def submit(self, call: Call) -> Future[object]:
        """Puts a call in its client's queue; returns the future of its answer."""
        with self._changed:
            self._waiting.add(call)
            self._changed.notify()
        return call.answer

    def drop(self, client: str) -> None:
        """Drops the pending calls of a client that is gone."""
        with self._changed:
            self._waiting.drop(client)
            self._last.discard(client)
            self._changed.notify()

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    with waiting():
                        self._changed.wait()
                self._wait_for_others()
                if not self._waiting:
                    continue  # who waited has left
                taken = self._waiting.take(self._tokens, isinstance(self._host, PackingLM))
            calls = [call for call in taken if call.answer.set_running_or_notify_cancel()]
            self._began = time.monotonic()
            alive()
            # Before the answers: who has one finds it counted.
            self.served = Served(self.served.calls + len(calls), self.served.turns + bool(calls))
            self._answer(calls)
            self._answered = time.monotonic()
            with self._changed:
                self._last = {call.client for call in calls}

    def _wait_for_others(self) -> None:
        """Gives those who were just served a moment to ask again, unless a pass is full already."""
        until = self._answered + min(LONGEST, SHARE * (self._answered - self._began))
        while self._waiting and self._last - self._waiting.clients():
            left = until - time.monotonic()
            if left <= 0 or (self._tokens is not None and self._waiting.positions() >= self._tokens):
                return
            self._changed.wait(left)

    def _answer(self, calls: Sequence[Call]) -> None:
        error = self._tried(calls)
        if error is not None and len(calls) > 1:  # the mistake is one client's, or the pass was too large
            del error
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
            for call in calls:
                self._answer([call])
            return
        for _ in range(REPEATS):
            if isinstance(error, HostLostError):
                self.lost += 1
                error = self._tried(calls)
        if error is not None:
            calls[0].answer.set_exception(_given_up(error) if isinstance(error, HostLostError) else error)

    def _tried(self, calls: Sequence[Call]) -> Exception | None:
        """Answers all calls, or none and returns the host's error, which keeps none of its tensors alive."""
        try:
            answers = self._asked(calls)
        except torch.AcceleratorError:
            os._exit(1)  # no later call in this process could use the device; a new process can
        except Exception as error:
            traceback.clear_frames(error.__traceback__)
            return error
        for call, answer in zip(calls, answers, strict=True):
            call.answer.set_result(answer)
        return None

    def _asked(self, calls: Sequence[Call]) -> list[object]:
        requests = [call.what for call in calls if isinstance(call.what, Request)]
        if requests and isinstance(self._host, PackingLM):
            return list(self._host.loss_many(requests, self._tokens))
        if requests:
            return [self._host.loss(*request[:2], grad=request.grad) for request in requests]
        return [getattr(self._host, str(c.what))(*c.arguments, **c.keywords) for c in calls]


def _given_up(error: HostLostError) -> UserError:
    return UserError(
        f"the model was lost {REPEATS + 1} times during one request, most recently because {error}; lower "
        "placement.tokens, or give it more memory or another machine"
    )
