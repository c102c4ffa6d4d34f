"""Ray on the nodes of a job, and one command at a time beside it, until it ends or Slurm asks for an end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from jobs.support.exits import FINISHED, WRONG

LOOK = 0.5
"""Seconds between two looks at the processes."""

PATIENCE = 120.0
"""Seconds that a command has to stop in order: Slurm signals 180 before the end, and Ray must end as well."""

LEAVING = 25.0
"""Seconds that a process has to end without Ray; Slurm kills what is left after half a minute."""

LIMIT = signal.SIGUSR1
"""What `--signal=B:USR1@180` sends before the time limit and, where the site says so, before a preemption."""

STOPPED, KILLED = 128 + signal.SIGTERM, 128 + signal.SIGKILL
"""The status of a study that was told to stop and has stopped in order, or that had to be killed."""

LOST = 3
"""The status of a job whose Ray has ended by itself: not the study's failure, nor the user's mistake."""


class Signals:
    """What Slurm has sent to this process, from now on."""

    def __init__(self) -> None:
        self._heard: set[int] = set()
        for number in (signal.SIGTERM, signal.SIGINT, LIMIT):
            signal.signal(number, self._hear)

    @property
    def asked(self) -> int | None:
        """USR1 to stop and go back into the queue; another to stop, which wins whenever it comes."""
        return min(self._heard, key=lambda number: number == LIMIT, default=None)

    def _hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._heard.add(number)


class Nodes:
    """The step that holds a Ray node on each node of the job, for as long as its standard input is open."""

    def __init__(self, step: list[str], variables: dict[str, str], signals: Signals) -> None:
        self._process = subprocess.Popen(step, stdin=subprocess.PIPE, env=variables)  # noqa: S603
        self._variables = variables
        self._signals = signals

    def run(self, command: list[str], **variables: str) -> int:
        """Runs a command on this node and returns its exit status, 3 if Ray has ended before it.

        A signal from Slurm reaches it as SIGTERM. If it has not stopped two minutes later it is killed: no
        more than what came after the last checkpoints is lost, and the job can still be put back.
        """
        process = subprocess.Popen(command, env=self._variables | variables)  # noqa: S603
        told: float | None = None
        while True:
            try:
                return _shown(process.wait(LOOK))
            except subprocess.TimeoutExpired:
                pass
            if self._signals.asked is not None and told is None:
                process.send_signal(signal.SIGTERM)
                told = time.monotonic()
            if told is not None and time.monotonic() - told > PATIENCE:
                print(f"the study has not stopped within {PATIENCE:g} seconds and is killed", file=sys.stderr)
                process.kill()
                return _shown(process.wait())
            if self._process.poll() is not None:
                return self._without_ray(process, told is not None)

    def _without_ray(self, process: subprocess.Popen[bytes], told: bool) -> int:
        """The status of a command whose Ray has ended: its own, if that does not come from Ray's end."""
        if not told:  # another signal would end it at once
            process.terminate()
        own = _leave(process)
        if own == FINISHED or self._signals.asked is not None:  # Slurm has ended Ray too
            return _shown(own)
        if self._process.returncode == WRONG:  # a node has said in one sentence what must be mended
            return WRONG
        print("error: Ray has ended on the nodes of the job; the lines above say why", file=sys.stderr)
        return LOST

    def end(self) -> None:
        """Ends Ray on all nodes. What does not end in time, Slurm ends with the job."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        _leave(self._process)


def _shown(status: int) -> int:
    """The exit status as a shell shows it."""
    return 128 - status if status < 0 else status


def _leave(process: subprocess.Popen[bytes]) -> int:
    """Waits for the end of a process, kills it if that takes too long, and returns its status."""
    try:
        return process.wait(LEAVING)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@contextmanager
def running_nodes(step: list[str], variables: dict[str, str], signals: Signals) -> Iterator[Nodes]:
    """The nodes, for as long as the context lasts."""
    nodes = Nodes(step, variables, signals)
    try:
        yield nodes
    finally:
        nodes.end()
