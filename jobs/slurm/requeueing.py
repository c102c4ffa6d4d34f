"""Puts a job back into Slurm's queue, unless somebody has cancelled the job meanwhile."""

from __future__ import annotations

import re
import subprocess
import time

from jobs.slurm.allocation import Allocation
from softprior.errors import UserError

MOST_RESTARTS = 100
"""A job that was put back more often than this does not get on."""

TRIES, TIMEOUT, PAUSE = 3, 5.0, 1.0
"""How often a command is tried that Slurm's controller may be too busy for, and seconds for each try and
between two; all of it fits in half a minute."""


def requeue(allocation: Allocation) -> bool:
    """Puts the job back into the queue, where it waits for its next turn.

    Returns:
        False if Slurm has ended the job already, as scancel does; it stays out of the queue then.

    Raises:
        UserError: it must not go there, or cannot.
    """
    if allocation.restarts >= MOST_RESTARTS:
        raise UserError(
            f"the job has been put back into the queue {allocation.restarts} times and now stays out of it; "
            "look at its log, and submit it again if it makes progress"
        )
    state = re.search(r"\bJobState=(\w+)", _scontrol("--oneliner", "show", "job", allocation.job))
    if state is None or state[1] != "RUNNING":
        return False
    _scontrol("requeue", allocation.job)
    return True


def _scontrol(*arguments: str) -> str:
    """What the command prints. A signal ends it where Slurm already does what it was asked.

    Raises:
        UserError: it fails again and again, or is missing.
    """
    said = ""
    for left in reversed(range(TRIES)):
        try:
            done = subprocess.run(  # noqa: S603  fixed words and a number
                ["scontrol", *arguments],  # noqa: S607  wherever the site has it
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=TIMEOUT,
            )
        except OSError as error:
            said = f"scontrol: {error.strerror}"
            break
        except subprocess.TimeoutExpired:
            said = f"scontrol has not answered in {TIMEOUT:g} seconds"
        else:
            if done.returncode <= 0:
                return done.stdout
            said = " ".join((done.stdout + done.stderr).split()) or f"scontrol: status {done.returncode}"
        if left:
            time.sleep(PAUSE)
    raise UserError(f"the job could not be put back into the queue ({said}); submit it again to continue")
