"""Commands that are watched while they run, with all their processes, and memory as Linux counts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

EVERY = 0.2
"""Seconds between looks at processor time; a process that ends may have worked as long unseen."""

LOOKS = 10
"""Looks at processor time for one at memory, which takes the kernel longer; shorter peaks are missed."""

TICK = 1 / os.sysconf("SC_CLK_TCK")

Key = tuple[int, str]
"""A process: its id, and when it started."""


class Took(NamedTuple):
    """What a piece of work took.

    Attributes:
        seconds: by the clock.
        cpu: processor seconds of all its threads; of a command those of all its processes.
        memory: of the process at its peak, in MB; of a command the largest sum of the proportional set sizes
            (PSS) of all its processes that was seen.
    """

    seconds: float
    cpu: float
    memory: float


def medians(several: Iterable[Took]) -> Took:
    """The median of each."""
    return Took(*map(median, zip(*several, strict=True)))


def watched(
    program: list[str],
    environment: Mapping[str, str],
    output: Path,
    note: Callable[[list[int]], None] = lambda _: None,
) -> Took:
    """Runs a command; ends this process with what it printed if it fails.

    Looking takes a few percent of a core. A process whose parent has ended is no longer seen.

    Args:
        output: a file for what it prints.
        note: called at each look with its process, which comes first, and all that descend from it.
    """
    seen: dict[Key, float] = {}
    memory, looks, began = 0.0, 0, time.perf_counter()
    with output.open("w") as file:
        process = subprocess.Popen(program, env=dict(environment), stdout=file, stderr=file)  # noqa: S603  our own
        while not ended(process, EVERY):
            own = family(process.pid)
            note(own)
            seen |= dict(filter(None, map(spent, own)))
            if looks % LOOKS == 0:
                memory = max(memory, sum(map(pss, own)))
            looks += 1
    seconds = time.perf_counter() - began
    if process.returncode:
        sys.exit(output.read_text())
    return Took(seconds, sum(seen.values()), memory)


def ended(process: subprocess.Popen[Any], within: float) -> bool:
    """Waits up to `within` seconds for a process to end; returns whether it did."""
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        return False
    return True


def timed(work: Callable[[], object]) -> Took:
    """What a piece of work takes in this process."""
    forget_peak()
    cpu, clock = time.process_time(), time.perf_counter()
    work()
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    return Took(clock, cpu, resident("VmHWM"))


def forget_peak() -> None:
    """From now on, the peak of this process's memory is that of what follows."""
    Path("/proc/self/clear_refs").write_text("5")


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
