"""Processes that answer together: each request goes to all of them, and either all answer or all are ended.

Ranks of a sharded model wait for one another inside every request, so one that dies or hangs leaves the
others waiting. The caller therefore never waits for a rank alone: it takes answers as they come, and the
first sign of trouble (an exit, an error, a passed deadline) ends the whole group.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import IO, Any, NamedTuple, Protocol, runtime_checkable

from softprior.errors import HostLostError, UserError
from softprior.liveness import waiting


class RanksLostError(HostLostError):
    """The processes of a sharded model had to be ended; the next request starts them anew."""


class Limits(NamedTuple):
    """Time limits in seconds, including the time that ranks wait for one another.

    Attributes:
        request: to answer a request.
        loading: to start, which reads the weights.
    """

    request: float = 600.0
    loading: float = 1800.0


class Member(NamedTuple):
    """What a rank needs to know to find the others.

    Attributes:
        rank: its index.
        ranks: number of ranks.
        rendezvous: where they meet, as an `init_method` of torch.distributed.
        limits: after which a rank that hangs ends itself.
    """

    rank: int
    ranks: int
    rendezvous: str
    limits: Limits


class Call(NamedTuple):
    """A call to a rank: the name of a method of its host, and the arguments."""

    name: str
    args: tuple[object, ...] = ()
    kwargs: dict[str, object] = {}


class Reply(NamedTuple):
    """The outcome of a request.

    Attributes:
        kind: `done` with the result; `refused` with a sentence for the user, which leaves the rank in step
            with the others; `failed` with the error's line, after which it is not in step.
    """

    kind: str
    value: Any


@runtime_checkable
class Transport(Protocol):
    """How ranks are started and reached."""

    def start(self, limits: Limits) -> None:
        """Starts all ranks, whose first reply comes without a request once the model is loaded."""

    def send(self, rank: int, request: Call, seconds: float) -> None:
        """Hands a request to a rank, within the given time.

        Raises:
            RanksLostError: the rank does not take it.
        """

    def receive(self, waiting: set[int], seconds: float) -> dict[int, Reply]:
        """Replies of some of the waiting ranks, as soon as there is one; none when the time is over.

        Raises:
            RanksLostError: a rank is gone.
        """

    def end(self) -> None:
        """Kills all ranks, whatever they are doing."""


class Ranks:
    """A group of ranks, started at the first request and again after it was lost.

    Args:
        count: number of ranks.
        transport: reaches them.
    """

    def __init__(self, count: int, transport: Transport, limits: Limits) -> None:
        self.count = count
        self._transport = transport
        self._limits = limits
        self._running = False

    def ask(self, requests: Sequence[Call]) -> list[Any]:
        """Sends one request to each rank and returns their results.

        Raises:
            RanksLostError: a rank died, failed or did not answer in time; all have been ended.
            UserError: the ranks refused the request.
        """
        if not self._running:
            self._begin()
        return self._whole(lambda: self._exchange(requests), self._limits.request, "answer")

    def end(self) -> None:
        """Ends all ranks; a later request starts new ones."""
        self._running = False
        self._transport.end()

    def _begin(self) -> None:
        self._running = True
        try:
            self._whole(lambda: self._transport.start(self._limits), self._limits.loading, "load the model")
        except UserError:
            self.end()  # a rank that refuses to load has nothing to answer with
            raise

    def _exchange(self, requests: Sequence[Call]) -> None:
        for rank, request in enumerate(requests):
            self._transport.send(rank, request, self._limits.request)

    def _whole(self, send: Callable[[], None], seconds: float, what: str) -> list[Any]:
        """Sends, and collects a reply from every rank. An interruption would leave replies behind that a
        later request would take for its own, so it ends the ranks."""
        try:
            send()
            replies = self._collect(seconds, what)
        except BaseException:
            self.end()
            raise
        refused = next((reply.value for reply in replies if reply.kind == "refused"), None)
        if refused is not None:
            raise UserError(refused)
        return [reply.value for reply in replies]

    def _collect(self, seconds: float, what: str) -> list[Reply]:
        deadline = time.monotonic() + seconds
        replies: dict[int, Reply] = {}
        while len(replies) < self.count:
            missing = set(range(self.count)) - set(replies)
            left = deadline - time.monotonic()
            if left <= 0:
                raise RanksLostError(
                    f"{_named(missing)} of the sharded model did not {what} within {seconds:g} s, so all "
                    "were ended"
                )
            with waiting():  # up to the deadline
                found = self._transport.receive(missing, left)
            for rank, reply in found.items():
                if reply.kind == "failed":
                    raise RanksLostError(
                        f"rank {rank} of the sharded model failed ({reply.value}), so all were ended"
                    )
            replies |= found
        return [replies[rank] for rank in range(self.count)]


def _named(ranks: set[int]) -> str:
    return ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(str(rank) for rank in sorted(ranks))


class Processes:
    """Ranks as processes on this machine, each with one of the GPUs that this process sees.

    Args:
        count: number of ranks.
        entry: `module:function` that a rank runs; it gets a connection's file descriptor.
        job: what the function receives over the connection, in addition to its place.
        environment: variables of every rank.
        devices: the `CUDA_VISIBLE_DEVICES` of each rank.
    """

    def __init__(
        self, count: int, entry: str, job: object, environment: dict[str, str], devices: Sequence[str]
    ) -> None:
        self._count = count
        self._entry = entry
        self._job = job
        self._environment = environment
        self._devices = devices
        self._links: list[Connection] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._logs: list[IO[bytes]] = []
        self._meeting: IO[bytes] | None = None

    def start(self, limits: Limits) -> None:
        # A file without a name, which ranks inherit: nothing of it stays, however this process ends.
        self._meeting = tempfile.TemporaryFile()  # noqa: SIM115  closed in `end`
        meeting = f"file:///proc/self/fd/{self._meeting.fileno()}"
        module, _, function = self._entry.partition(":")
        for rank in range(self._count):
            mine, theirs = Pipe()
            self._links.append(mine)
            self._logs.append(tempfile.TemporaryFile())  # noqa: SIM115  closed in `end`
            code = f"from {module} import {function}; {function}({theirs.fileno()})"
            environment = os.environ | self._environment | {"CUDA_VISIBLE_DEVICES": self._devices[rank]}
            with theirs:
                self._processes.append(
                    subprocess.Popen(  # noqa: S603  this interpreter, and nothing of a user's
                        [sys.executable, "-c", code],
                        env=environment | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                        stdin=subprocess.DEVNULL,
                        stdout=self._logs[rank],
                        stderr=subprocess.STDOUT,
                        pass_fds=[theirs.fileno(), self._meeting.fileno()],
                    )
                )
        for rank, link in enumerate(self._links):
            with suppress(BrokenPipeError):  # the exit is found, with its reason, when the answer is awaited
                put(link, (Member(rank, self._count, meeting, limits), self._job))

    def send(self, rank: int, request: Call, seconds: float) -> None:
        with suppress(BrokenPipeError), self._within(seconds, rank, "take a request"):  # as above
            put(self._links[rank], request)

    def receive(self, waiting: set[int], seconds: float) -> dict[int, Reply]:
        # Ranks that have answered are watched too: one may die while another still waits for it.
        found: dict[int, Reply] = {}
        ready = wait(self._links, seconds)
        for rank, link in enumerate(self._links):
            if link not in ready:
                continue
            try:
                with self._within(seconds, rank, "finish its answer"):
                    reply = take(link)
            except (EOFError, OSError):
                raise RanksLostError(
                    f"rank {rank} of the sharded model {self._ending(rank)}, so all were ended"
                ) from None
            assert rank in waiting, f"rank {rank} answered twice"
            found[rank] = reply
        return found

    def end(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for link in self._links:
            link.close()
        for log in self._logs:
            log.close()
        if self._meeting is not None:
            self._meeting.close()
        self._links, self._processes, self._logs, self._meeting = [], [], [], None

    @contextmanager
    def _within(self, seconds: float, rank: int, what: str) -> Iterator[None]:
        """Ends all ranks when the time is over: a pipe to or from a frozen rank blocks forever."""
        late = threading.Event()

        def kill() -> None:
            late.set()
            for process in self._processes:
                process.kill()

        alarm = threading.Timer(seconds, kill)
        alarm.daemon = True
        alarm.start()
        try:
            yield
        except (EOFError, OSError):
            if not late.is_set():
                raise
        finally:
            alarm.cancel()
        if late.is_set():
            raise RanksLostError(
                f"rank {rank} of the sharded model did not {what} within {seconds:g} s, so all were ended"
            )

    def _ending(self, rank: int) -> str:
        """How a rank whose connection is closed ended, and the last line of its output."""
        try:
            code = self._processes[rank].wait(10)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        self._logs[rank].seek(0)
        lines = self._logs[rank].read().decode(errors="replace").strip().splitlines()
        return f"exited with status {code}" + (f" ({lines[-1].strip()})" if lines else "")


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Ends this process if it hangs, in a collective or elsewhere, in case its caller is gone too."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def put(link: Connection, value: object) -> None:
    """Sends a value with its tensors' contents; `Connection.send` would share their memory by handle."""
    link.send_bytes(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))


def take(link: Connection) -> Any:
    """The next value from a connection to one of our processes."""
    return pickle.loads(link.recv_bytes())  # noqa: S301  from a process that this one started
