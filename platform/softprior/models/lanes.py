"""Passes over parts of a batch side by side, on the CPUs of a process.

The threads of an operation wait for each other at its end, and a pass has thousands of operations. A thread
that takes some rows through the whole pass waits once. What comes out equals one pass up to rounding, and
depends on the number of threads, as it does without lanes; `PackedModel.ragged` turns this form off.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

LEAST = 256
"""Positions per lane, at least: each lane computes the prompt and pays for every operation once more."""

RunT = TypeVar("RunT")
DoneT = TypeVar("DoneT")


def lanes(sizes: Int[Tensor, "N"], threads: int) -> list[tuple[int, int]]:
    """Runs of consecutive rows or batches with about equally many tokens, at most one per thread.

    Args:
        sizes: tokens of each row or batch.

    Returns:
        The index of the first of each run, and the index after its last one.
    """
    total = int(sizes.sum())
    count = min(threads, total // LEAST)
    if count < 2:
        return [(0, len(sizes))]
    middles = 2 * sizes.cumsum(0) - sizes
    counts = torch.bincount(middles * count // (2 * total))
    ends = counts[counts > 0].cumsum(0).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def side_by_side(work: Callable[[RunT], DoneT], runs: list[RunT]) -> list[DoneT]:
    """What `work` makes of each run, in a thread each, which share this process's threads."""
    threads = torch.get_num_threads()
    each = max(1, threads // len(runs))

    def alone(run: RunT) -> DoneT:
        torch.set_num_threads(each)
        return work(run)

    torch.set_num_threads(each)  # those of the matrix library are the whole process's
    try:
        done = [_pool(len(runs)).submit(alone, run) for run in runs]
        wait(done)  # also after an error: none may set the number again once it is given back
        return [lane.result() for lane in done]
    finally:
        torch.set_num_threads(threads)


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads that stay, as the libraries keep memory for each that they have seen."""
    return ThreadPoolExecutor(count, thread_name_prefix="lane")
