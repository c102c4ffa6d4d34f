"""What scheduling and tracking cost: python -m benchmarks.overhead

A study of trials that do next to nothing (`tiny`, one step on one example, caches warm) runs as a command
of its own with Ray and MLflow, and all processor time is counted, user's and system's: the driver's, its
workers', Ray's own processes', and of those that have ended. The same trials run in one process
without Ray and MLflow; what they take there is subtracted, the rest is divided by the number of trials.
Starting the study is in it. A study of a few such trials beside it says what each further trial adds, start
apart. The time of each trial's figure, which is drawn beside the study, is in all of this and is also told.
After each study, as many trials that do nothing run in Ray Tune with its MLflow callback
(`benchmarks.growth_floor`), which is the least that scheduling and tracking take.

Then the dry run of a grid of 10,000 trials is timed by the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from benchmarks.result import of_rounds, tell
from benchmarks.watched import Key, Took, medians, resident, spent, watched
from softprior.training.threads import thread_environment

if TYPE_CHECKING:
    from softprior.training.events import Event

RATES, PRIORS = 5, ["isotropic", "fitted"]
"""Axes of the dry run beside its seeds."""


ALONE = 200
"""Most trials that are run without a study."""

FEW = 10
"""Trials of the study that says what starting one takes."""

MANY = 10 * FEW
"""Fewest trials of the study beside it: starts differ by seconds, which fewer trials would not outweigh."""


class Cpu(NamedTuple):
    """Processor seconds of a study, user's and system's, by who spent them.

    Attributes:
        driver: and the processes beside it that draw.
    """

    driver: float
    workers: float
    ray: float


class Tracked(NamedTuple):
    """A command that ran with all its processes.

    Attributes:
        memory: of the driver at its peak, in MB.
        seconds: by the clock.
    """

    cpu: Cpu
    memory: float
    seconds: float

    def __str__(self) -> str:
        cpu = self.cpu
        return (
            f"{self.seconds:.1f} s, {sum(cpu):.1f} s CPU (driver {cpu.driver:.1f}, workers "
            f"{cpu.workers:.1f}, Ray {cpu.ray:.1f}), driver {self.memory:.0f} MB"
        )


class Growth(NamedTuple):
    """What studies, or trials in Tune alone, took in each round.

    Attributes:
        added: processor seconds that each of their trials took besides its own work.
        further: those that each trial beyond the first few took.
        memory: of the driver at its peak, in MB.
        cpu, seconds: of the whole study, processor time and by the clock.
    """

    added: list[float]
    further: list[float]
    memory: list[float]
    cpu: list[float]
    seconds: list[float]


def main() -> None:
    """Prints one line a round, the medians, and the dry run's time."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--trials", type=int, default=200, help="of the study; 0 leaves it out (default: 200)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dry-run-trials", type=int, default=10_000, help="0 leaves it out (default: 10000)")
    parser.add_argument("--json", action="store_true", help="also print results for `python -m benchmarks`")
    parser.add_argument("--work-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work_of:
        print(json.dumps(work(options.work_of)))
        return
    if options.trials:
        if options.trials < MANY:
            parser.error(
                f"--trials must be 0 or at least {MANY}; a study of {FEW} beside it says what starting takes"
            )
        found, floor = scheduling(options.trials, options.rounds)
        if options.json:
            count = f"{options.trials:,}"
            took = Took(*(median(getattr(found, of)) for of in Took._fields))
            further = f"after the first {FEW}, up to {count}"
            for name, unit, of, goal in (
                (f"what a study of {count} trials adds to each, its start included", "s CPU", "added", None),
                (f"what each trial of a study adds {further}", "s CPU", "further", 0.3),
                (f"memory of the driver, {count} trials", "MB", "memory", 1000),
            ):
                limit = median(getattr(floor, of))
                tell(of_rounds(name, getattr(found, of), unit, took, goal=goal, most=True, limit=limit))
    if options.dry_run_trials:
        runs = [dry_run(options.dry_run_trials) for _ in range(options.rounds)]
        each = ", ".join(f"{one.seconds:.1f}" for one in runs)
        took = medians(runs)
        print(f"dry run of {options.dry_run_trials:,} trials: {took.seconds:.1f} s ({each})")
        if options.json:
            name = f"dry run of {options.dry_run_trials:,} trials"
            tell(of_rounds(name, [one.seconds for one in runs], "s", took))


def scheduling(trials: int, rounds: int) -> tuple[Growth, Growth]:
    """Prints what a study adds to each of its trials; returns what studies took, and what Tune alone took."""
    with tempfile.TemporaryDirectory(prefix="softprior-overhead-") as folder:
        alone(Path(folder), 2)  # fits, examples and model go into the cache
    found, floor = (Growth(*([] for _ in Growth._fields)) for _ in range(2))
    for round_ in range(rounds):
        added, floor_added = {}, {}
        largest: list[Tracked] = []
        for count in (FEW, trials):
            with tempfile.TemporaryDirectory(prefix="softprior-overhead-") as folder:
                own = alone(Path(folder), count)
            with tempfile.TemporaryDirectory(prefix="softprior-overhead-") as folder:
                ours = tracked(command(Path(folder), study(count)), Path(folder))
            with tempfile.TemporaryDirectory(prefix="softprior-overhead-") as folder:
                program = [sys.executable, "-m", "benchmarks.growth_floor", str(count), folder]
                bare = tracked(program, Path(folder))
            added[count], floor_added[count] = sum(ours.cpu) - own["trials"], sum(bare.cpu)
            print(
                f"round {round_ + 1}, {count} trials: study {ours}; the trials alone {own['trials']:.1f} s "
                f"CPU, their figures {own['figures']:.1f}; {added[count] / count:.3f} s CPU added per trial; "
                f"Tune and MLflow alone {bare}",
                flush=True,
            )
            largest = [ours, bare]
        for growth, seconds, last in zip((found, floor), (added, floor_added), largest, strict=True):
            growth.added.append(seconds[trials] / trials)
            growth.further.append((seconds[trials] - seconds[FEW]) / (trials - FEW))
            growth.memory.append(last.memory)
            growth.cpu.append(sum(last.cpu))
            growth.seconds.append(last.seconds)
    print(
        f"median: {median(found.added):.3f} s CPU added to each of {trials} trials, "
        f"{median(found.further):.3f} to each after the first {FEW}, {median(floor.further):.3f} with Tune "
        f"and MLflow alone"
    )
    return found, floor


def study(trials: int) -> dict[str, Any]:
    """As many trials, the no-prompt baseline among them, with as little work as a study may have."""
    return {
        "name": "overhead",
        "model": {"id": "tiny", "device": "cpu"},
        "priors": ["isotropic"],
        "methods": [{"soft": {"tokens": 2}}],
        "tasks": [{"arithmetic": {"modules": ["two_digit_addition"]}}],
        "rates": [1e-3],
        "seeds": list(range(trials - 1)),
        "training": {"steps": 1, "batch": 1, "snapshots": 0},
        "evaluation": {"examples": 1, "generate": 0, "batch": 1, "context_shuffle": False},
        "resources": {"cpus": 1},
    }


def tracked(program: list[str], folder: Path) -> Tracked:
    """Runs a study, or trials in Tune alone, and counts the time of all its processes.

    Args:
        folder: for what it prints.
    """
    seen: dict[Key, tuple[str, float]] = {}
    peaks = [0.0]

    def note(processes: list[int]) -> None:
        look(processes, seen)
        peaks.append(resident("VmHWM", processes[0]))

    took = watched(program, own_cluster(), folder / "output.txt", note)
    parts = dict.fromkeys(Cpu._fields, 0.0)
    for who, cpu in seen.values():
        parts[who] += cpu
    return Tracked(Cpu(**parts), max(peaks), took.seconds)


def look(processes: list[int], seen: dict[Key, tuple[str, float]]) -> None:
    """Notes who each process of the study is and its time so far, by process id and start.

    The kernel's own sum over children misses Ray's workers, for which nobody waits.

    Args:
        processes: the driver first.
    """
    for process in processes:
        try:
            name = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        if (found := spent(process)) is None:
            continue
        key, seconds = found
        ours = process == processes[0] or b"analysis.figures" in name
        works = name.startswith(b"ray::") and b"Agent" not in name  # Ray's agents are called so too
        who = "driver" if ours else "workers" if works else "ray"
        if not name and key in seen:  # it has ended and lost its name
            who = seen[key][0]
        seen[key] = (who, seconds)


def alone(folder: Path, trials: int) -> dict[str, float]:
    """Processor seconds of the same trials, and of their figures, in a process of its own.

    Of more than `ALONE`, that number is run and its seconds are scaled, as each takes as long as another.
    """
    few = min(trials, ALONE)
    (folder / "study.yaml").write_text(yaml.safe_dump(study(few)))
    arguments = [sys.executable, "-m", "benchmarks.overhead", "--work-of", str(folder)]
    one = os.environ | thread_environment(1)  # as a trial of one CPU has it, and what draws it
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, env=one)  # noqa: S603
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {name: seconds * trials / few for name, seconds in found.items()}


def work(folder: Path) -> dict[str, float]:
    """Runs the trials of the study in a folder, then draws them; `alone` sets its threads."""
    from analysis.figures.trial import draw_trial
    from softprior.inputs.study_files import load_grid
    from softprior.models.load import load_local
    from softprior.results.folder import StudyFolder
    from softprior.studies.plan import plan_study
    from softprior.training.setup import Setup
    from softprior.training.trial import Trial

    spec = load_grid(folder / "study.yaml")
    plan = plan_study(spec)
    given, results = load_local(spec.model), StudyFolder(folder / "alone")
    start = time.process_time()
    heard: list[Event] = []
    records = [Trial(Setup(trial, *given), results, heard.append).run() for trial in plan.trials]
    middle = time.process_time()
    for record in records:
        draw_trial(record, results, record.label, pdf=False)
    return {"trials": middle - start, "figures": time.process_time() - middle}


def dry_run(trials: int) -> Took:
    """What a dry run takes, from starting Python to its end."""
    seeds = -(-trials // (RATES * len(PRIORS)))
    axes = {"priors": PRIORS, "rates": [1e-3 * (i + 1) for i in range(RATES)], "seeds": list(range(seeds))}
    with tempfile.TemporaryDirectory(prefix="softprior-overhead-") as folder:
        arguments = [*command(Path(folder), study(trials) | axes), "--dry-run", "--all"]
        output = Path(folder) / "output.txt"
        took = watched(arguments, os.environ, output)
        said = output.read_text()
    if said.count(" · seed ") != seeds * RATES * len(PRIORS):
        sys.exit(said[:2000])
    return took


def command(folder: Path, study: dict[str, Any]) -> list[str]:
    """What runs a study, with its results in the same folder."""
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return [sys.executable, "-m", "jobs.study", str(folder / "study.yaml"), "--results", str(folder)]


def own_cluster() -> dict[str, str]:
    """The environment of a study that starts its own Ray."""
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}


if __name__ == "__main__":
    main()
