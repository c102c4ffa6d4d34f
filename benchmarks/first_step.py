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
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.result import Result, of_rounds, tell
from benchmarks.watched import Key, ended, family, spent
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

EVERY, LOOKS = 0.02, 10
"""Seconds between looks for the step, and number of them for one at the processes."""


class Reached(NamedTuple):
    """A point on the way: seconds from the command on, and processor seconds of all its processes by then.

    The latter lack what a process has done after the last look at it.
    """

    seconds: float
    cpu: float


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
    began = time.perf_counter()
    seen: dict[Key, float] = {}
    reached: list[Reached] = []
    looks = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603  our own words
        while not ended(process, EVERY):
            found = len(reached) < len(marks) and marks[len(reached)]()
            seconds = time.perf_counter() - began
            if found or looks % LOOKS == 0:
                seen |= dict(filter(None, map(spent, family(process.pid))))
            if found:
                reached.append(Reached(seconds, sum(seen.values())))
            looks += 1
        now = Reached(time.perf_counter() - began, sum(seen.values()))
        while len(reached) < len(marks) and marks[len(reached)]():  # since the last look
            reached.append(now)
        reached.append(now)
    if process.returncode or len(reached) <= len(marks):
        sys.exit("it did not get there; run the command by hand: " + " ".join(command))
    return reached


def _row(name: str, points: list[Reached], goal: float | None = None) -> Result:
    times, took = [one.seconds for one in points], _median(points)
    row = of_rounds(name, times, "s", goal=goal, most=True)
    return replace(row, seconds=took.seconds, cpu=took.cpu)


def _median(points: list[Reached]) -> Reached:
    return Reached(*map(median, zip(*points, strict=True)))


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
                    ends.append(Reached(end.seconds - last.seconds, end.cpu - last.cpu))
                    line += f"; {ends[-1].seconds:.1f} s from the last trial's record to the end"
                print(line, flush=True)
    if options.json:
        tell(_row("from the command to the first step", ours, goal=10))
        tell(_row("from the last trial's record to the end of the command, its report included", ends))
    scripts = (("with Ray and transformers", floors), ("with transformers and without Ray", bares))
    for what, theirs in scripts if options.json and floors else ():
        ratios = [other.seconds / one.seconds for other, one in zip(theirs, ours, strict=True)]
        own, other = _median(ours), _median(theirs)
        row = f"from the command to the first step: a plain script {what} over ours"
        result = of_rounds(row, ratios, "times (s)", ours=own.seconds, peer=other.seconds)
        tell(replace(result, seconds=own.seconds, cpu=own.cpu))


if __name__ == "__main__":
    main()
