"""Sides of a comparison as processes of their own, which are asked in turns.

A process of ours starts with the variables of a trial's worker; one of a peer has none of them but the number
of threads, as a script has that somebody starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from typing import Any

from softprior.training.threads import thread_environment


def as_worker(threads: int) -> dict[str, str]:
    """The environment of a worker of ours."""
    return dict(os.environ) | thread_environment(threads)


def as_script(threads: int) -> dict[str, str]:
    """That of a peer."""
    ours = thread_environment(threads)
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | {"OMP_NUM_THREADS": str(threads)}


ANSWER = "answer: "
"""Begins the line of an answer; libraries print others when they are first imported."""


class Asked:
    """A process that answers questions, one at a time."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts it.

        Args:
            words: of the command, behind `python -m`.
        """
        self._process = subprocess.Popen(  # noqa: S603  our own words
            [sys.executable, "-m", *words],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: str) -> Any:
        """What it answers; ends this process if that one has failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended, and answers nothing
            print(question, file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
            print(line, end="", file=sys.stderr)
        sys.exit("a process that measures has failed; what it said is above")

    def end(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()


def started(module: str, of: str, threads: int) -> Asked:
    """The process of a side, `softprior` or `peer`: this command with `--alone`."""
    environment = as_worker(threads) if of == "softprior" else as_script(threads)
    return Asked([module, *sys.argv[1:], "--alone", of], environment)


def answer(answers: Mapping[str, Callable[[], object]]) -> None:
    """Answers the questions on the standard input until it ends; what is printed meanwhile is no answer."""
    for line in sys.stdin:
        with redirect_stdout(sys.stderr):
            said = json.dumps(answers[line.strip()]())
        print(f"\n{ANSWER}{said}", flush=True)  # behind a line that may not have ended
