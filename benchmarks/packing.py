"""Losses of several trials in one pass against one pass each: python -m benchmarks.packing

What a shared model can gain in time before anything travels between processes (benchmarks.hosted has
that too). Same model, random tokens, 20 vectors per trial, loss and gradient; median ratios of wall time over
interleaved rounds. Above 1 means that packing pays.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from benchmarks.sides import TOKENS
from softprior.inputs.specs import ModelSpec
from softprior.models.load import load_local
from softprior.models.protocol import PackingLM, Request
from softprior.prompt import Batch, Place
from softprior.seeding import torch_generator
from softprior.training.threads import limit_threads

IDS = (5, 200)
"""Token ids that every model has."""

LABELS = 4
"""The last tokens of every row."""


def main() -> None:
    """Prints one line for every number of rows."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.packing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 8, 16], help="of each trial's batch")
    parser.add_argument("--length", type=int, default=24, help="tokens of a row (default: 24)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    limit_threads(options.threads)
    host = load_local(ModelSpec(id=options.model, device=options.device)).host
    if not isinstance(host, PackingLM):
        parser.error("only decoders take the losses of several prompts in one pass")
    for rows in options.rows:
        requests = [
            Request(prompt_of(host.info().hidden, trial), batch_of(rows, options.length, trial), True)
            for trial in range(options.trials)
        ]

        def alone(asked: list[Request] = requests) -> None:
            for request in asked:
                host.loss(request.prompt, request.batch, grad=True)

        def packed(asked: list[Request] = requests) -> None:
            host.loss_many(asked)

        for warming in (alone, packed):
            warming()
        times = [(_seconds(alone), _seconds(packed)) for _ in range(options.rounds)]
        one, together = (1e3 * median(column) for column in zip(*times, strict=True))
        ratio = median(first / second for first, second in times)
        print(
            f"{options.trials} trials of {rows} x {options.length} tokens: {one:.1f} ms one after another, "
            f"{together:.1f} ms packed, ratio {ratio:.2f}"
        )


def prompt_of(hidden: int, trial: int) -> dict[Place, torch.Tensor]:
    return {Place(0): 0.02 * torch.randn(TOKENS, hidden, generator=torch_generator(0, "prompt", trial))}


def batch_of(rows: int, length: int, trial: int) -> Batch:
    tokens = torch.randint(*IDS, (rows, length), generator=torch_generator(0, "tokens", trial))
    labels = torch.zeros(rows, length, dtype=torch.bool)
    labels[:, -LABELS:] = True
    ids = tuple(str(row) for row in range(rows))
    return Batch(
        ids=ids,
        tokens=tokens,
        lengths=torch.full((rows,), length),
        labels=labels,
        scored=labels.clone(),
        weights=torch.ones(rows),
    )


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
