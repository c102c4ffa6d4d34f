"""Four trials on one copy of the model against four with their own: python -m benchmarks.hosted

The same study twice a round, interleaved, each a command of its own with its own Ray. Memory is the
largest sum of proportional set sizes (PSS) of all its processes, Ray's included, seen while it ran;
throughput is trials over the time they work, loading not counted. A ratio below 1 means that sharing
takes less memory, one above 1 that it does more work in the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import yaml

from benchmarks.planned import planned
from benchmarks.result import of_rounds, tell
from benchmarks.watched import Took, medians, watched
from softprior.results.folder import StudyFolder
from softprior.results.records import load_records


class Run(NamedTuple):
    """One run of the study: GB of PSS at the most, trials per hour while they worked, and what it took."""

    memory: float
    speed: float
    took: Took


def main() -> None:
    """Prints one line a round and the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hosted", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct-q4_1")
    parser.add_argument("--task", choices=["arithmetic", "squad"], default="squad")
    parser.add_argument("--context", type=int, default=240, help="tokens of a SQuAD example (default: 240)")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--replicas", type=int, default=1, help="of the shared model (default: 1)")
    parser.add_argument("--threads", type=int, default=2, help="of each replica (default: 2)")
    parser.add_argument("--gpus", type=float, default=0.0, help="of each replica (default: 0)")
    parser.add_argument("--tokens", type=int, default=2048, help="positions of a pass (default: 2048)")
    parser.add_argument(
        "--own-at-once", type=int, help="trials with their own model at a time, as 1 on a GPU (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="also print results for `python -m benchmarks`")
    options = parser.parse_args()
    threads = options.replicas * options.threads
    at_once = options.own_at_once or options.trials
    each = max(1, min(threads, threads * 2 // at_once))  # as many threads in all as do some good
    gpus = options.replicas * options.gpus / at_once
    own = {
        "resources": {"cpus": each, "gpus": gpus, "concurrent": at_once},
        "placement": {"hosts": "local"},
    }
    shared = {
        "resources": {"cpus": each, "concurrent": options.trials},
        "placement": {
            "hosts": "shared",
            "replicas": options.replicas,
            "cpus": options.threads,
            "gpus": options.gpus,
            "tokens": options.tokens,
        },
    }
    runs: list[tuple[Run, Run]] = []
    for round_ in range(options.rounds):
        alone, together = (run(study(options) | part, options) for part in (own, shared))
        runs.append((alone, together))
        print(
            f"round {round_ + 1}: own {alone.memory:.2f} GB, {alone.speed:.1f} trials per hour; shared "
            f"{together.memory:.2f} GB, {together.speed:.1f}; ratios {together.memory / alone.memory:.2f} of "
            f"the memory, {together.speed / alone.speed:.2f} of the throughput",
            flush=True,
        )
    memory = [together.memory / alone.memory for alone, together in runs]
    speed = [together.speed / alone.speed for alone, together in runs]
    print(f"median: {median(memory):.2f} of the memory, {median(speed):.2f} times the throughput")
    if options.json:
        texts = f"texts of up to {options.context} tokens" if options.task == "squad" else options.task
        passes = f"passes of up to {options.tokens:,} positions"
        sharing = f"{options.trials} trials on a shared model, {texts}, {passes}"
        took, tokens = medians(together.took for _, together in runs), planned(study(options))
        for name, ratios, of, goal, most, unit in (
            ("memory over own models'", memory, "memory", 0.4, True, "GB"),
            ("throughput over own models'", speed, "speed", 1.0, False, "trials per hour"),
        ):
            own_models, ours = (median(getattr(one, of) for one in side) for side in zip(*runs, strict=True))
            tell(
                of_rounds(
                    f"{sharing}: {name}",
                    ratios,
                    f"times ({unit})",
                    took,
                    goal=goal,
                    most=most,
                    ours=ours,
                    peer=own_models,
                    tokens=tokens,
                )
            )


def study(options: argparse.Namespace) -> dict[str, Any]:
    """Trained trials alone, that differ in the seed; the baseline runs beside them."""
    tasks: dict[str, Any] = {
        "squad": {"context_tokens": options.context},
        "arithmetic": {"modules": ["two_digit_addition"]},
    }
    return {
        "name": "hosted",
        "model": {"id": options.model, "device": "auto" if options.gpus else "cpu"},
        "priors": ["isotropic"],
        "methods": [{"soft": {"tokens": 20}}],
        "tasks": [{options.task: tasks[options.task] | {"test_examples": 16, "validation_examples": 16}}],
        "rates": [1e-3],
        "seeds": list(range(options.trials)),
        "training": {"steps": options.steps, "batch": options.batch},
        "evaluation": {"examples": 16, "generate": 0, "batch": options.batch},
        "tracking": {"enabled": False},
    }


def run(study: dict[str, Any], options: argparse.Namespace) -> Run:
    """Runs a study in processes of its own."""
    with tempfile.TemporaryDirectory(prefix="softprior-hosted-") as folder:
        file = Path(folder) / "study.yaml"
        file.write_text(yaml.safe_dump(study))
        # Enough CPUs on paper that all trials run at once, whatever the machine has.
        cpus = options.replicas * options.threads + options.trials * study["resources"]["cpus"] + 1
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        environment["RAY_OVERRIDE_RESOURCES"] = json.dumps({"CPU": cpus})
        command = [sys.executable, "-m", "jobs.study", str(file), "--results", folder]
        took = watched(command, environment, Path(folder) / "output.txt")
        records = load_records(StudyFolder(Path(folder) / "hosted").records).values()
        worked = [record.environment["seconds"] for record in records if record.spec.prior]
        wall = max(*worked, sum(worked) / study["resources"]["concurrent"])
        return Run(took.memory / 1e3, 3600 * len(worked) / wall, took)


if __name__ == "__main__":
    main()
