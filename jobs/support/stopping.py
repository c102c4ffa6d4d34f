"""Ctrl-C and SIGTERM: a command says at once that it heard them, and ends in order."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from types import FrameType

from jobs.support.screen import COMMAND
from softprior.errors import hidden
from softprior.results.storage import JOB, Location

SIGNALS = (signal.SIGINT, signal.SIGTERM)

SUBMITTED = "SOFTPRIOR_SUBMITTED"
"""Set by `jobs.slurm` for the command of a batch job, to the job's number."""

AGAIN = 1.0
"""Seconds after which a further signal is a person's: `timeout` sends its own twice."""


@dataclass
class Stop:
    """Whether a command was asked to stop.

    Attributes:
        signal: by which signal; None if it was not.
        orderly: set by the command once it has something to put in order before it ends.
        ended: what is said once nothing is left to stop but what follows the work; set by the command then.
    """

    signal: int | None = None
    orderly: bool = False
    ended: str | None = None

    @property
    def status(self) -> int:
        """The exit status of a command that a signal ended."""
        assert self.signal is not None
        return 128 + self.signal


def how_to_go_on() -> str:
    """What to do after a study was stopped: the command again or, in a job of Ray or Slurm, to submit it."""
    if JOB in os.environ or SUBMITTED in os.environ:
        return "submit the same job again to continue"
    return f"continue with:\n  {COMMAND}jobs.study {hidden(shlex.join(sys.argv[1:]))}"


def how_to_begin_anew(folder: Location) -> list[str]:
    """What to do for a study with a plan of its own: the same command under a name that is free.

    Args:
        folder: of the study.

    Returns:
        The end of a sentence, and the command, if there is one, as a line of its own.
    """
    names = (f"{folder.name}-{number}" for number in count(2))
    name = next(name for name in names if not (folder.parent / name).exists())
    if JOB in os.environ or SUBMITTED in os.environ:
        return [f"submit it with name={name} to plan all of it and train it from the start"]
    own = [text for text in sys.argv[1:] if not text.startswith(("name=", "--dry-run", "--all"))]
    return [
        "to plan all of it and train it from the start, run:",
        f"{COMMAND}jobs.study {hidden(shlex.join(own))} name={name}",
    ]


@contextmanager
def stoppable(early: str, late: str) -> Iterator[Stop]:
    """Inside, a signal prints a sentence at once and stops the command.

    As long as the command is not `orderly` the process ends there: an exception in the middle of imports
    leaves half-imported modules behind, which break other threads. Later, the first signal raises
    KeyboardInterrupt, and another ends the process. A signal that is ignored, as Ctrl-C is by commands in
    the background of a script, stays so.

    Args:
        early, late: what is printed before the command is orderly, and from then on until its work has ended.
    """
    stop = Stop()
    heard_at = 0.0

    def heard(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal heard_at
        if stop.signal is None:
            stop.signal, heard_at = number, time.monotonic()
            with suppress(OSError, RuntimeError):  # the terminal may be gone, or a print in progress
                sys.stdout.flush()
            with suppress(OSError):
                os.write(2, f"\n{stop.ended or (late if stop.orderly else early)}\n".encode())
            if stop.orderly:
                raise KeyboardInterrupt
        if not stop.orderly or time.monotonic() - heard_at >= AGAIN:
            os._exit(128 + number)

    previous = {n: signal.getsignal(n) for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN}
    for number in previous:
        signal.signal(number, heard)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
