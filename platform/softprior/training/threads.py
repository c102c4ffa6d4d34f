"""CPU threads: a trial uses the CPUs it was given and no more."""

from __future__ import annotations

import os

CORE_FLOPS = 80e9
"""Operations per second of one CPU core, from 300 positions/s of SmolLM2-135M on two; slow ones have half."""


def thread_environment(cpus: int) -> dict[str, str]:
    """Environment variables that bound every thread pool of a process started with them, and its memory.

    Its threads share one heap: with heaps of their own, 36 batches of SmolLM2 held 2.68 GB instead of 2.06.
    The heap has huge pages where the system gives them: a step of SmolLM2 takes 4% less time, and a large
    tensor costs no thousands of page faults. A thread that waits for another one sleeps: spinning, it takes
    the core that the other one needs. Beside one busy process, a step of two threads then takes four times as
    long. `GOMP_SPINCOUNT` and `GLIBC_TUNABLES` are kept where somebody has set them otherwise.
    """
    pools = (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "TORCHINDUCTOR_COMPILE_THREADS",
    )
    return {name: str(cpus) for name in pools} | {
        "TOKENIZERS_PARALLELISM": "false",
        "MALLOC_ARENA_MAX": "1",
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "0"),
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),
    }


def limit_threads(cpus: int) -> None:
    """The same for this process, which must not have used torch for work yet.

    Two processes with as many threads each as there are cores have run ten times slower than one.
    """
    import torch  # a driver that asks for the variables alone need not wait for it

    os.environ.update(thread_environment(cpus))
    torch.set_num_threads(cpus)
