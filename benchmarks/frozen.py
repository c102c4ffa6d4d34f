"""Training steps that start at the first block with vectors, against whole ones: python -m benchmarks.frozen

Same model, same batch, same vectors; CPU seconds of the process over interleaved rounds, medians. The first
step computes what is kept, a second process reads it from files, later steps have it in memory.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from statistics import median

import torch

from benchmarks.peft_step import BATCH, TOKENS, examples
from softprior.assets.cache import VARIABLE
from softprior.inputs.specs import FrozenCache, ModelSpec
from softprior.methods import METHODS
from softprior.models.kept_rows import KeptRows
from softprior.models.load import load_local
from softprior.models.local import LocalLM
from softprior.models.protocol import Losses
from softprior.prompt import collate
from softprior.seeding import torch_generator
from softprior.training.threads import limit_threads


def main() -> None:
    """Prints one line per method."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frozen", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct-q4_1")
    parser.add_argument("--context", type=int, default=300, help="longest example in tokens (default: 300)")
    parser.add_argument("--rows", type=int, default=BATCH, help=f"rows of a batch (default: {BATCH})")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    limit_threads(options.threads)
    model = ModelSpec(id=options.model, device="cpu")
    host = load_local(model).host
    assert isinstance(host, LocalLM)
    blocks = host.info().blocks
    batch = collate(examples(model, options.context, options.rows))
    last = list(range(blocks - blocks // 4, blocks))
    methods: dict[str, tuple[str, dict[str, object]]] = {
        "deep on the last 3 blocks alone": ("deep", {"token_level": "none"}),
        f"prefix on the last {len(last)} of {blocks} blocks": ("prefix", {"blocks": last}),
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ[VARIABLE] = folder
        for told, (name, params) in methods.items():
            places = METHODS[name].model_validate({"tokens": TOKENS, **params}).places(blocks)
            prompt = {
                place: 0.1 * torch.randn(TOKENS, host.width(place), generator=torch_generator(0, place.name))
                for place in places
            }

            def step() -> Losses:
                return host.loss(prompt, batch, grad=True)  # noqa: B023  called in the same turn

            host.frozen = None
            step()  # warms up
            host.keep_rows(KeptRows(FrozenCache()))
            frozen = host.frozen
            first, _ = taken(step)
            host.keep_rows(KeptRows(FrozenCache()))
            again, _ = taken(step)
            times: dict[bool, list[float]] = {True: [], False: []}
            found: dict[bool, Losses] = {}
            for _ in range(options.rounds):
                for kept in times:
                    host.frozen = frozen if kept else None
                    seconds, found[kept] = taken(step)
                    times[kept].append(seconds)
            whole, short = median(times[False]), median(times[True])
            ratios = [a / b for a, b in zip(times[False], times[True], strict=True)]
            spread = float((found[True].nll - found[False].nll).abs().max())
            print(
                f"{told}: {whole:.2f} CPU seconds a whole step, {short:.2f} a step with what is kept: "
                f"{median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f}); first step "
                f"{first:.2f}, from files {again:.2f}; losses of rows differ by at most {spread:.1e}",
                flush=True,
            )


def taken(step: Callable[[], Losses]) -> tuple[float, Losses]:
    """CPU seconds of a step, and what it returns."""
    started = time.process_time()
    found = step()
    return time.process_time() - started, found


if __name__ == "__main__":
    main()
