"""Passes over parts of a batch side by side, on the CPUs of a process.

The threads of an operation wait for each other at its end, and a pass has thousands of operations. A thread
that takes some rows through the whole pass waits once. What comes out equals one pass up to rounding, and
depends on the number of threads, as it does without lanes; `PackedModel.ragged` turns this form off.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Lock
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

PAIR, LEAST = 25, 256
"""Tokens per lane, on average at least, of two lanes with a thread each and of all others: each computes the
prompt again and pays for every operation, and what Python does for all of them takes turns."""

FEWEST = 8
"""Rows per lane that generates, at least: each lane reads all weights for every token."""

UNEVEN = 1.25
"""Tokens of the largest lane over those of the mean, at most: the other threads wait for it."""

THREADS = 1024
"""Lanes at a time, at most; a thread is made when all others are busy."""

RunT = TypeVar("RunT")
DoneT = TypeVar("DoneT")

_one_caller = cache(Lock)


def lanes(sizes: Int[Tensor, "N"], threads: int) -> list[tuple[int, int]]:
    """Runs of consecutive rows or batches with about equally many tokens, which share all threads evenly.

    Args:
        sizes: tokens of each row or batch.

    Returns:
        The index of the first of each run, and the index after its last one; a single run where lanes are not
        worth it.
    """
    total = int(sizes.sum())
    middles = 2 * sizes.cumsum(0) - sizes
    for count in _counts(total, min(threads, len(sizes)), threads):
        lane = middles * count // (2 * total)
        tokens = torch.zeros(count, dtype=sizes.dtype).index_add(0, lane, sizes)
        if bool(tokens.all()) and int(tokens.max()) * count <= UNEVEN * total:
            ends = torch.bincount(lane, minlength=count).cumsum(0).tolist()
            return list(zip([0, *ends[:-1]], ends, strict=True))
    return [(0, len(sizes))]


def dealt(lengths: Sequence[int], threads: int) -> list[list[int]]:
    """The rows of each lane that generates, dealt in turn; all in one where lanes are not worth it.

    Lanes then have equally many rows, and about equally many tokens where rows come in order of length.

    Args:
        lengths: tokens of each row.
    """
    rows, total = len(lengths), sum(lengths)
    for count in _counts(total, min(threads, rows // FEWEST), threads):
        hands = [list(range(first, rows, count)) for first in range(count)]
        if max(sum(lengths[row] for row in hand) for hand in hands) * count <= UNEVEN * total:
            return hands
    return [list(range(rows))]


def _counts(tokens: int, most: int, threads: int) -> Iterator[int]:
    """Numbers of lanes that are worth it and share all threads evenly, the largest first."""
    for count in range(most, 1, -1):
        if threads % count == 0 and tokens >= count * (PAIR if count == threads == 2 else LEAST):
            yield count


def side_by_side(work: Callable[[RunT], DoneT], runs: list[RunT]) -> list[DoneT]:
    """What `work` makes of each run, in a thread each, which share this process's threads.

    A single run stays in this thread. An error is raised when all have ended: none of them still uses the
    model then. A thread that first uses torch meanwhile has as few threads as a run for good, so a process
    calls its hosts from one thread.
    """
    if len(runs) == 1:
        return [work(runs[0])]
    threads = torch.get_num_threads()
    each = threads // len(runs)

    def alone(run: RunT) -> DoneT:
        torch.set_num_threads(each)
        return work(run)

    with _one_caller():
        try:
            done = [_pool().submit(alone, run) for run in runs]
            wait(done)
        except BaseException:  # an interrupt, or a thread that cannot be started
            _pool().shutdown(cancel_futures=True)
            _pool.cache_clear()
            raise
        finally:
            torch.set_num_threads(threads)  # a thread that sets its own sets that of all new ones as well
    return [lane.result() for lane in done]


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads that stay, as the libraries keep memory for each that they have seen."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="lane")


os.register_at_fork(after_in_child=_pool.cache_clear)
os.register_at_fork(after_in_child=_one_caller.cache_clear)  # the parent may hold it
