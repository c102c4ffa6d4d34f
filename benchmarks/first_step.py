"""From the study file to the first training step: python -m benchmarks.first_step

Starts a study of one SQuAD trial on SmolLM2 with everything cached, and prints the seconds from
starting Python until the trial has written its first checkpoint, right behind its first step. The
no-prompt baseline runs before it, on one example.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.result import Result, tell

STUDY = Path(__file__).parents[1] / "jobs" / "studies" / "quickstart.yaml"
OVERRIDES = [
    "name=first-step",
    "priors=[isotropic]",
    "methods=[soft]",
    "tasks=[{squad: {context_tokens: 96}}]",
    "training={steps: 2, batch: 8, checkpoint: 1}",
    "evaluation={examples: 1, generate: 0}",
]


def first_step(results: Path) -> float:
    """Seconds until the first checkpoint of a study that starts now."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "jobs.study", str(STUDY), *OVERRIDES, "--results", str(results)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603  our own words
    reached = None
    while process.poll() is None:
        if reached is None and any((results / "first-step" / "checkpoints").glob("*.safetensors")):
            reached = time.perf_counter() - started
        time.sleep(0.02)
    if process.returncode or reached is None:
        sys.exit("the study failed; run the command by hand: " + " ".join(command))
    return reached


def main() -> None:
    """Prints one line a run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_step", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how often (default: 3)")
    parser.add_argument("--json", action="store_true", help="also print results for `python -m benchmarks`")
    options = parser.parse_args()
    times = []
    for run in range(options.runs):
        with tempfile.TemporaryDirectory() as results:
            times.append(first_step(Path(results)))
            print(f"run {run + 1}: {times[-1]:.1f} s to the first step", flush=True)
    if options.json:
        tell(
            Result(
                name="from the command to the first step",
                value=median(times),
                low=min(times),
                high=max(times),
                seconds=median(times),
                unit="s",
                goal=10,
                most=True,
                rounds=len(times),
            )
        )


if __name__ == "__main__":
    main()
