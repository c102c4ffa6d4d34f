"""From the study file to the first training step: python -m benchmarks.first_step

Starts a study of one SQuAD trial on SmolLM2 with everything cached, and prints the seconds from
starting Python until the trial has written its first checkpoint, right behind its first step, and the
processor seconds of all processes until then. The no-prompt baseline runs beside it, on one example. Then,
the seconds from the record of the last trial to the end of the command, which makes the report.

With --floor, each run is followed by two of `benchmarks.first_step_floor`, a plain script with transformers:
with Ray, and without it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

from benchmarks.result import Result, of_rounds, tell
from benchmarks.watched import family, pss
from softprior.assets.models import resolve_model
from softprior.inputs.specs import ModelSpec

STUDY = Path(__file__).parents[1] / "jobs" / "studies" / "quickstart.yaml"
OVERRIDES = [
    "name=first-step",
    "priors=[isotropic]",
    "methods=[soft]",
    "tasks=[{squad: {context_tokens: 96}}]",
    "training={steps: 2, batch: 8, checkpoint: 1}",
    "evaluation={examples: 1, generate: 0}",
]
TRIALS = 2
"""Number of trials of the study, the baseline included."""

MODEL = ModelSpec(id="smollm2-135m-instruct-q4_1")

EVERY = 10
"""Looks for the step between two looks at the processes; one that ends may have worked as long unseen."""


class Reached(NamedTuple):
    """A point on the way.

    Attributes:
        seconds: from the command on.
        cpu: processor seconds of all its processes by then, without what one has done after the last look at
            it.
        memory: of all of them then (PSS), in MB; at the end, when they are gone, that of the point before.
    """

    seconds: float
    cpu: float
    memory: float


def study(results: Path) -> list[Reached]:
    """The first checkpoint of a study that starts now, the record of its last trial, and its end."""
    checkpoints, records = (results / "first-step" / name for name in ("checkpoints", "records"))
    command = [sys.executable, "-m", "jobs.study", str(STUDY), *OVERRIDES, "--results", str(results)]

    def stepped() -> bool:
        return any(checkpoints.glob("*.safetensors"))

    return _reached(command, stepped, lambda: len(list(records.glob("*.json"))) == TRIALS)


def floor(folder: Path, *words: str) -> list[Reached]:
    """The step of `benchmarks.first_step_floor`, and its end."""
    weights, done = resolve_model(MODEL).folder, folder / "done"
    program = [sys.executable, "-m", "benchmarks.first_step_floor", str(weights), str(done), *words]
    return _reached(program, done.exists)


def bare(folder: Path) -> list[Reached]:
    """The same without Ray."""
    return floor(folder, "--bare")


def _reached(command: list[str], *marks: Callable[[], bool]) -> list[Reached]:
    """Runs a command; when each thing was there, one after another, and when it ended."""
    started = time.perf_counter()
    spent: dict[int, float] = {}
    reached: list[Reached] = []
    looks, memory = 0, 0.0
    with psutil.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            found = len(reached) < len(marks) and marks[len(reached)]()
            seconds = time.perf_counter() - started
            if found or looks % EVERY == 0:
                for each in [process, *process.children(recursive=True)]:
                    with suppress(psutil.Error):
                        times = each.cpu_times()
                        spent[each.pid] = times.user + times.system
            if found:
                memory = sum(map(pss, family(process.pid)))
                reached.append(Reached(seconds, sum(spent.values()), memory))
            looks += 1
            time.sleep(0.02)
        now = Reached(time.perf_counter() - started, sum(spent.values()), memory)
        while len(reached) < len(marks) and marks[len(reached)]():  # since the last look
            reached.append(now)
        reached.append(now)
    if process.returncode or len(reached) <= len(marks):
        sys.exit("it did not get there; run the command by hand: " + " ".join(command))
    return reached


def _row(name: str, points: list[Reached], goal: float | None = None) -> Result:
    times = [one.seconds for one in points]
    cpu, memory = median(one.cpu for one in points), max(one.memory for one in points)
    known = {"seconds": median(times), "cpu": cpu, "memory": memory, "goal": goal, "most": True}
    return of_rounds(name, times, "s", **known)


def main() -> None:
    """Prints one line a run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=3, help="how often (default: 3)")
    parser.add_argument(
        "--floor", action="store_true", help="also run a plain script with transformers, with Ray and without"
    )
    parser.add_argument("--json", action="store_true", help="also print results for `python -m benchmarks`")
    options = parser.parse_args()
    ours: list[Reached] = []
    floors: list[Reached] = []
    bares: list[Reached] = []
    ends: list[Reached] = []
    for run in range(options.runs):
        for name, measure, found in (
            ("study", study, ours),
            ("script with Ray", floor, floors),
            ("script", bare, bares),
        ):
            if measure is study or options.floor:
                with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                    step, *rest = measure(Path(folder))
                found.append(step)
                line = f"run {run + 1}, {name}: {step.seconds:.1f} s to the first step, {step.cpu:.1f} s CPU"
                if measure is study:
                    last, end = rest
                    ends.append(Reached(end.seconds - last.seconds, end.cpu - last.cpu, end.memory))
                    line += f"; {ends[-1].seconds:.1f} s from the last trial's record to the end"
                print(line, flush=True)
    if options.json:
        tell(_row("from the command to the first step", ours, goal=10))
        tell(_row("from the last trial's record to the end of the command, its report included", ends))
    scripts = (("with Ray and transformers", floors), ("with transformers and without Ray", bares))
    for what, theirs in scripts if options.json and floors else ():
        ratios = [other.seconds / one.seconds for other, one in zip(theirs, ours, strict=True)]
        row = _row(f"from the command to the first step: a plain script {what} over ours", ours)
        sides = {"ours": row.value, "peer": median(one.seconds for one in theirs)}
        work = {"seconds": row.seconds, "cpu": row.cpu, "memory": row.memory}
        tell(of_rounds(row.name, ratios, "times (s)", **sides, **work))


if __name__ == "__main__":
    main()
