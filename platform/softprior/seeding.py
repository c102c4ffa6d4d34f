"""Named random generators: the same names give the same draws in every process, in any order.

Nothing in softprior touches a global seed. Whoever needs randomness takes a generator as an
argument; the names say what it is for, so that two trials which differ in the prior only still see
the same data order.
"""

import hashlib

import numpy as np
import torch


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on `seed` and on every name, through SHA-256."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for draws of tensors (samples of a prior)."""
    return torch.Generator().manual_seed(derive(seed, *names))


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A generator for draws on the data side (orders, subsamples, permutations)."""
    return np.random.default_rng(derive(seed, *names))
