"""Fitting and sampling priors at the size of Llama-3.2-1B: python -m benchmarks.prior_fits

The table of 128,256 x 2,048 vectors is random (no such model is needed to time a fit). Printed are the
ratio of a whole Gaussian fit to its Gram matrix alone, over interleaved pairs; the memory a fit adds to
the data, in a process of its own, in float64 matrices of H x H; the time to draw 20 vectors from every
prior; and the seconds of a VAE on 20,000 vectors of H = 576.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.watched import forget_peak, resident
from softprior.assets.cache import VARIABLE
from softprior.priors import PRIORS
from softprior.seeding import torch_generator
from softprior.statistics.moments import ROWS
from softprior.testing.priors import TableSource
from softprior.training.threads import limit_threads

DRAWN = {
    "isotropic": {},
    "xavier": {},
    "fitted": {},
    "exclusion": {},
    "interpolation": {},
    "low_density": {},
    "vae": {"steps": 50},
    "vocabulary": {},
    "instruction": {"text": "a text of a few words"},
    "mixture": {"priors": ["isotropic", "fitted"]},
}
"""Priors to draw from; the others copy what they have."""


def seconds(work: Callable[[], object]) -> float:
    """Wall time of a piece of work."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def gram(vectors: Float[Tensor, "N D"]) -> Float[Tensor, "D D"]:
    """The second moments in float64, block by block, and nothing else."""
    total = torch.zeros(vectors.shape[1], vectors.shape[1], dtype=torch.float64)
    for block in vectors.split(ROWS):
        exact = block.double()
        total += exact.T @ exact
    return total


def fit(source: TableSource) -> None:
    """A fit that no cache has seen."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ[VARIABLE] = cache
        PRIORS["fitted"]().fit(source)


def memory(rows: int, hidden: int) -> None:
    """Prints the peak that a fit adds to its data."""
    source = TableSource(hidden, 20, rows)
    fit(TableSource(64, 20, 200))  # what libraries allocate at first use is not the fit's
    before = resident("VmRSS")
    forget_peak()
    fit(source)
    added, matrix, block = resident("VmHWM") - before, hidden**2 * 8 / 1e6, ROWS * hidden * 8 / 1e6
    print(
        f"memory: {added:.0f} MB beyond the data: {(added - block) / matrix:.1f} matrices of H x H "
        f"and one block of {ROWS} rows ({block:.0f} MB)"
    )


def main() -> None:
    """Prints everything, one line each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prior_fits", description=__doc__)
    parser.add_argument("--rows", type=int, default=128_256)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=3, help="interleaved pairs (default: 3)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    limit_threads(options.threads)
    if options.memory:
        memory(options.rows, options.hidden)
        return
    subprocess.run([sys.executable, "-m", "benchmarks.prior_fits", *sys.argv[1:], "--memory"], check=True)  # noqa: S603

    source = TableSource(options.hidden, 20, options.rows)
    ratios = []
    for _ in range(options.pairs):
        alone, whole = seconds(lambda: gram(source.vocabulary())), seconds(lambda: fit(source))
        ratios.append(whole / alone)
        print(f"fit {whole:.1f} s, Gram matrix alone {alone:.1f} s, ratio {ratios[-1]:.2f}", flush=True)
    print(f"fit over Gram matrix: {median(ratios):.2f}")

    with tempfile.TemporaryDirectory() as cache:
        os.environ[VARIABLE] = cache
        for name, params in DRAWN.items():
            fitted = PRIORS[name].model_validate(params).fit(source)
            generator = torch_generator(0)
            fitted.sample(generator, 20)
            taken = median(seconds(lambda f=fitted, g=generator: f.sample(g, 20)) for _ in range(9))  # type: ignore[misc]
            print(f"20 draws at H = {options.hidden}: {name} {1000 * taken:.1f} ms", flush=True)
        small = TableSource(576, 20, 20_000)
        print(f"vae on 20,000 x 576: {seconds(lambda: PRIORS['vae']().fit(small)):.0f} s")


if __name__ == "__main__":
    main()
