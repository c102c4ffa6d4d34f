"""Folders on a node's own disk: one for each job there, and none that outlives its job for long."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from jobs.slurm.allocation import Share

LONGEST = 42
"""Characters of Ray's folder: with `/session_DATE_TIME_PID/sockets/plasma_store`, 107 are a socket's most."""

LOCK = "held"
"""File in a folder that is locked for as long as its node lives, however that ends."""

YOUNG = 60.0
"""Seconds in which a folder may not have been locked yet."""


@contextmanager
def folder(share: Share, variables: Mapping[str, str]) -> Iterator[Path]:
    """A folder of the job's own on this node's disk: below TMPDIR, or below /tmp where that is too long.

    It goes at the end. Those that killed runs of this job, or of others of this user, have left go at the
    beginning.
    """
    prefix = f"sp-{share.job}-{share.index}-"
    base = Path(variables.get("TMPDIR") or "/tmp")  # noqa: S108  folders in it are made for this user alone
    room = len(str(base)) + 1 + len(prefix) + 8 <= LONGEST  # 8: what tempfile adds
    if not (room and base.is_dir() and os.access(base, os.W_OK)):
        base = Path("/tmp")  # noqa: S108
    for left in base.glob("sp-*-*-*"):
        if _left(left, prefix):
            shutil.rmtree(left, ignore_errors=True)
    own = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    try:
        with (own / LOCK).open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _left(found: Path, prefix: str) -> bool:
    """Whether a folder is this user's and nobody's any more."""
    try:
        state = found.lstat()
        if state.st_uid != os.getuid():
            return False
        if found.name.startswith(prefix):
            return True
        if time.time() - state.st_mtime < YOUNG:
            return False
        with (found / LOCK).open("rb+") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held; or it has gone meanwhile, or is something else
        return False
    return True
