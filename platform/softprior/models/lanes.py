"""Passes over parts of a batch side by side, on the CPUs of a process.

The threads of an operation wait for each other at its end, and a pass has thousands of operations. A thread
that takes some rows through the whole pass waits once. What comes out equals one pass up to rounding, and
depends on the number of threads, as it does without lanes; `PackedModel.ragged` turns this form off.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Lock
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from softprior.models.protocol import ModelInfo

LEAST = 256
"""Tokens per lane, at least: each lane computes the prompt and pays for every operation once more."""

FEWEST = 8
"""Rows per lane that generates, at least: each lane reads all weights for each token."""

AT_ONCE = 2
"""Batches to generate from at a time where passes run side by side: each batch costs memory for its keys."""

UNEVEN = 1.25
"""Tokens of the largest lane over those of the mean, at most: the other threads wait for it."""

THREADS = 1024
"""Lanes at a time, at most; a thread is made when all others are busy."""

RunT = TypeVar("RunT")
DoneT = TypeVar("DoneT")

_one_caller = Lock()


def lanes(sizes: Int[Tensor, "N"], threads: int, fewest: int = 1) -> list[tuple[int, int]]:
    """Runs of consecutive rows or batches with about equally many tokens, which share all threads evenly.

    Args:
        sizes: tokens of each row or batch.
        fewest: rows or batches per run, on average, at least.

    Returns:
        The index of the first of each run, and the index after its last one; a single run where lanes are not
        worth it.
    """
    total = int(sizes.sum())
    most = min(threads, total // LEAST, len(sizes) // fewest)
    middles = 2 * sizes.cumsum(0) - sizes
    for count in (n for n in range(most, 1, -1) if threads % n == 0):
        lane = middles * count // (2 * total)
        tokens = torch.zeros(count, dtype=sizes.dtype).index_add(0, lane, sizes)
        if bool(tokens.all()) and int(tokens.max()) * count <= UNEVEN * total:
            ends = torch.bincount(lane, minlength=count).cumsum(0).tolist()
            return list(zip([0, *ends[:-1]], ends, strict=True))
    return [(0, len(sizes))]


def batches_at_once(info: ModelInfo) -> int:
    """Number of batches of rows to hand to `FrozenLM.generate` together, so that each can be a lane."""
    divided = info.kernels == "chunked" and info.steady is None and not info.frozen_cache
    return AT_ONCE if divided and torch.get_num_threads() > 1 else 1


def side_by_side(work: Callable[[RunT], DoneT], runs: list[RunT]) -> list[DoneT]:
    """What `work` makes of each run, in a thread each, which share this process's threads.

    A single run stays in this thread. An error is raised when all have ended: none of them still uses the
    model then.
    """
    if len(runs) == 1:
        return [work(runs[0])]
    threads = torch.get_num_threads()
    each = threads // len(runs)

    def alone(run: RunT) -> DoneT:
        torch.set_num_threads(each)
        return work(run)

    with _one_caller:
        done = [_pool().submit(alone, run) for run in runs]
        try:
            wait(done)
        finally:
            torch.set_num_threads(threads)  # a thread that sets its own sets that of all new ones as well
    return [lane.result() for lane in done]


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads that stay, as the libraries keep memory for each that they have seen."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="lane")


os.register_at_fork(after_in_child=_pool.cache_clear)
