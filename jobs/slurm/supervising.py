"""Ray on the nodes of a job, and one command at a time beside it, until it ends or Slurm asks for an end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from jobs.support.exits import FAILED

LOOK = 0.5
"""Seconds between two looks at the processes."""

LEAVING = 25.0
"""Seconds that a process has to end after it was told to; Slurm kills what is left after half a minute."""

LIMIT = signal.SIGUSR1
"""What `--signal=B:USR1@180` sends before the time limit and, where the site says so, before a preemption."""

STOPPED = 128 + signal.SIGTERM
"""The status of a study that was told to stop, and has stopped in order."""


class Nodes:
    """The step that holds a Ray node on each node of the job, for as long as its standard input is open."""

    def __init__(self, step: list[str], variables: dict[str, str]) -> None:
        self._asked: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT, LIMIT):
            signal.signal(number, self._heard)
        self._process = subprocess.Popen(step, stdin=subprocess.PIPE, env=variables)  # noqa: S603
        self._variables = variables

    @property
    def asked(self) -> int | None:
        """The first signal that Slurm has sent: USR1 to stop and go back into the queue, others to stop."""
        return self._asked

    def _heard(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._asked = self._asked or number

    def run(self, command: list[str], **variables: str) -> int:
        """Runs a command on this node and returns its exit status, 1 if Ray has ended before it.

        A signal from Slurm reaches it as SIGTERM, and it has the time that Slurm gives.
        """
        process = subprocess.Popen(command, env=self._variables | variables)  # noqa: S603
        told = False
        while True:
            try:
                status = process.wait(LOOK)
                return 128 - status if status < 0 else status
            except subprocess.TimeoutExpired:
                pass
            if self._asked is not None and not told:
                process.send_signal(signal.SIGTERM)
                told = True
            if self._process.poll() is not None:
                process.terminate()
                _leave(process)
                if self._asked is not None:  # Slurm has ended both
                    return STOPPED
                print(
                    "error: Ray has ended on the nodes of the job; the lines above say why", file=sys.stderr
                )
                return FAILED

    def end(self) -> None:
        """Ends Ray on all nodes. What does not end in time, Slurm ends with the job."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        _leave(self._process)


def _leave(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(LEAVING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def held(step: list[str], variables: dict[str, str]) -> Iterator[Nodes]:
    """The nodes, for as long as the context lasts."""
    nodes = Nodes(step, variables)
    try:
        yield nodes
    finally:
        nodes.end()
