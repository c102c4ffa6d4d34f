"""Threads that spin or sleep while they wait, beside a busy process: python -m benchmarks.contention

A step of two threads on one row of 400 tokens, loss and gradient: several rows would be divided between the
threads, which would then have little to wait for. Each way is a process of its own that loads the model
once; both are asked in turns, without a busy process and with one. Ours sleep, the peer is the default of
GNU's OpenMP. Takes three minutes on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.asked import Asked, answer, as_script
from benchmarks.result import of_rounds, tell
from benchmarks.watched import Took, medians, timed

WAYS: dict[str, dict[str, str]] = {"spin": {}, "sleep": {"GOMP_SPINCOUNT": "0"}}

LENGTH = 400
"""Tokens of the step's row."""

STEPS = 2
"""Measured steps of a turn, after one that warms up."""


def alone() -> None:
    """Answers with the mean of what steps take."""
    import torch

    from benchmarks.packing import batch_of, prompt_of
    from softprior.inputs.specs import ModelSpec
    from softprior.models.load import load_local

    torch.set_num_threads(2)
    host = load_local(ModelSpec(id="smollm2-135m-instruct-q4_1", device="cpu")).host
    batch, prompt = batch_of(1, LENGTH, 0), prompt_of(host.info().hidden, 0)

    def step() -> Took:
        host.loss(prompt, batch, grad=True)
        took = timed(lambda: [host.loss(prompt, batch, grad=True) for _ in range(STEPS)])
        return took._replace(seconds=took.seconds / STEPS, cpu=took.cpu / STEPS)

    answer({"step": step})


def way(environment: dict[str, str]) -> Asked:
    """A process whose threads wait in one way."""
    return Asked(["benchmarks.contention", "--alone"], as_script(2) | environment)


@contextmanager
def busy_loop(wanted: bool) -> Iterator[None]:
    """A process that takes a core for as long as the context is open, if there is to be one."""
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"])] if wanted else []
    try:
        yield
    finally:
        for process in beside:
            process.kill()
            process.wait()


def main() -> None:
    """Prints a line a round."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contention", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="also print results for `python -m benchmarks`")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        alone()
        return
    ways = {name: way(environment) for name, environment in WAYS.items()}
    for one in ways.values():
        one.ask("step")  # the model is loaded, and the processor's caches and threads are ready
    for busy in (False, True):
        taken: dict[str, list[Took]] = {name: [] for name in WAYS}
        for round_ in range(options.rounds):
            for name, one in ways.items():
                with busy_loop(busy):
                    taken[name].append(Took(*one.ask("step")))
            last = {name: taken[name][-1].seconds for name in WAYS}
            print(
                f"round {round_ + 1}, busy {busy}: spinning {last['spin']:.2f} s, sleeping "
                f"{last['sleep']:.2f} s",
                flush=True,
            )
        ratios = [
            spin.seconds / sleep.seconds for spin, sleep in zip(taken["spin"], taken["sleep"], strict=True)
        ]
        if options.json:
            beside = "a busy loop beside" if busy else "no busy loop beside"
            spin, sleep = (medians(taken[name]) for name in WAYS)
            work = f"step of two threads on a row of {LENGTH} tokens, {beside}"
            row = f"{work}: spinning threads' time over sleeping ones'"
            ours, peer = sleep.seconds, spin.seconds
            tell(of_rounds(row, ratios, "times (s)", sleep, ours=ours, peer=peer, tokens=LENGTH))
    for one in ways.values():
        one.end()


if __name__ == "__main__":
    main()
