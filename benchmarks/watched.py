"""Commands that are watched while they run, with all their processes, and memory as Linux counts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

EVERY = 0.2
"""Seconds between looks at processor time; a process that ends may have worked as long unseen."""

LOOKS = 10
"""Looks at processor time for one at memory, which takes the kernel longer."""

TICK = 1 / os.sysconf("SC_CLK_TCK")

Key = tuple[int, str]
"""A process: its id, and when it started."""


class Watched(NamedTuple):
    """A command that ran.

    Attributes:
        seconds: by the clock.
        cpu: processor seconds of all its processes.
        memory: the largest sum of their proportional set sizes (PSS) seen, in MB.
    """

    seconds: float
    cpu: float
    memory: float


def watched(program: list[str], environment: Mapping[str, str], output: Path) -> Watched:
    """Runs a command; ends this process with what it printed if it fails.

    Args:
        output: a file for what it prints.
    """
    seen: dict[Key, float] = {}
    memory, looks, began = 0.0, 0, time.perf_counter()
    with output.open("w") as file:
        process = subprocess.Popen(program, env=dict(environment), stdout=file, stderr=file)  # noqa: S603  our own
        while process.poll() is None:
            own = family(process.pid)
            for each in own:
                if found := spent(each):
                    seen[found[0]] = found[1]
            if looks % LOOKS == 0:
                memory = max(memory, sum(map(pss, own)))
            looks += 1
            time.sleep(EVERY)
    seconds = time.perf_counter() - began
    if process.returncode:
        sys.exit(output.read_text())
    return Watched(seconds, sum(seen.values()), memory)


def family(process: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            parents.setdefault(int(words[1]), []).append(int(folder.name))
    found, new = [], [process]
    while new:
        found += new
        new = [child for parent in new for child in parents.get(parent, [])]
    return found


def spent(process: int) -> tuple[Key, float] | None:
    """A process and its processor seconds so far, user's and system's; None if it has ended."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (process, words[19]), TICK * (int(words[11]) + int(words[12]))


def pss(process: int) -> float:
    """Memory of a process in MB, pages that several have divided between them; 0 if it has ended."""
    return _megabytes(Path(f"/proc/{process}/smaps_rollup"), "Pss")


def resident(field: str, process: int | str = "self") -> float:
    """Memory of a process now (`VmRSS`) or at its peak (`VmHWM`), in MB; 0 if it has ended."""
    return _megabytes(Path(f"/proc/{process}/status"), field)


def _megabytes(path: Path, field: str) -> float:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0.0
    kibibytes = next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)
    return kibibytes * 1024 / 1e6
