"""Threads that spin or sleep while they wait, beside a busy process: python -m benchmarks.contention

A step of two threads on four rows of 100 tokens, loss and gradient. Each way is a process of its own,
taken in turns, without a busy process and with one. Ours sleep, the peer is the default of GNU's OpenMP.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median

from benchmarks.result import Result, tell

WAYS: dict[str, dict[str, str]] = {"spin": {}, "sleep": {"GOMP_SPINCOUNT": "0"}}

STEPS = 4
"""Measured steps of a process, after one that warms up."""


def steps() -> tuple[float, float]:
    """Median seconds and processor seconds of a step in this process."""
    import torch

    from benchmarks.packing import batch_of, prompt_of
    from softprior.inputs.specs import ModelSpec
    from softprior.models.load import load_local

    torch.set_num_threads(2)
    host = load_local(ModelSpec(id="smollm2-135m-instruct-q4_1", device="cpu")).host
    batch, prompt = batch_of(4, 100, 0), prompt_of(host.info().hidden, 0)
    taken = []
    for _ in range(STEPS + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        host.loss(prompt, batch, grad=True)
        taken.append((time.perf_counter() - wall, time.process_time() - cpu))
    return median(wall for wall, _ in taken[1:]), median(cpu for _, cpu in taken[1:])


def step_of(way: dict[str, str], busy: bool) -> tuple[float, float]:
    """What `steps` says in a process of its own."""
    unset = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"])] if busy else []
    try:
        command = [sys.executable, "-m", "benchmarks.contention", "--alone"]
        done = subprocess.run(  # noqa: S603  our own words
            command, env=unset | {"OMP_NUM_THREADS": "2"} | way, stdout=subprocess.PIPE, text=True, check=True
        )
    finally:
        for process in beside:
            process.kill()
            process.wait()
    wall, cpu = json.loads(done.stdout.splitlines()[-1])
    return wall, cpu


def main() -> None:
    """Prints a line a round."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contention", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="also print results for `python -m benchmarks`")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(steps()))
        return
    for busy in (False, True):
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
        for round_ in range(options.rounds):
            for name, way in WAYS.items():
                taken[name].append(step_of(way, busy))
            spin, sleep = (taken[name][-1][0] for name in WAYS)
            print(
                f"round {round_ + 1}, busy {busy}: spinning {spin:.2f} s, sleeping {sleep:.2f} s", flush=True
            )
        ratios = [a[0] / b[0] for a, b in zip(taken["spin"], taken["sleep"], strict=True)]
        if options.json:
            beside = "a busy loop beside" if busy else "no busy loop beside"
            tell(
                Result(
                    name=f"step of two threads, {beside}: spinning threads' time over sleeping ones'",
                    value=median(ratios),
                    low=min(ratios),
                    high=max(ratios),
                    ours=median(wall for wall, _ in taken["sleep"]),
                    peer=median(wall for wall, _ in taken["spin"]),
                    cpu=median(cpu for _, cpu in taken["sleep"]),
                    unit="times (s)",
                    rounds=options.rounds,
                )
            )


if __name__ == "__main__":
    main()
