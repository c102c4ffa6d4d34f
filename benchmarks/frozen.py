"""Training steps that start at the first block with vectors, against whole ones: python -m benchmarks.frozen

Same model, same batch, same vectors; medians of interleaved rounds, one JSON line per method. Seconds are CPU
seconds of the process, and on a GPU those of a clock. The first step computes what is kept, a second process
reads it from files, later steps have it in memory. `--shape llama-3.2-1b` takes random weights of that shape
on a GPU, in bfloat16, as `benchmarks.gpu` does; SQuAD on SmolLM2 is what it takes otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from benchmarks.gpu import SHAPES, random_batch, random_host
from benchmarks.sides import BATCH, TOKENS, examples
from softprior.assets.cache import VARIABLE
from softprior.inputs.specs import FrozenCache, ModelSpec
from softprior.methods import METHODS
from softprior.models.kept_rows import KeptRows
from softprior.models.load import load_local
from softprior.models.local import LocalLM
from softprior.models.protocol import Losses
from softprior.prompt import Batch, Prompt, collate
from softprior.seeding import torch_generator
from softprior.training.threads import limit_threads


@dataclass(frozen=True)
class Bench:
    """A model and the rows it is given."""

    host: LocalLM
    batch: Batch
    rounds: int

    def measured(self, prompt: Prompt) -> dict[str, float]:
        """Seconds of steps with and without what is kept, and by how much losses differ."""

        def step() -> Losses:
            return self.host.loss(prompt, self.batch, grad=True)

        self.host.frozen = None
        step()  # warms up
        self.host.keep_rows(KeptRows(FrozenCache()))
        frozen = self.host.frozen
        first, _ = self.taken(step)
        self.host.keep_rows(KeptRows(FrozenCache()))
        again, _ = self.taken(step)
        times: dict[bool, list[float]] = {True: [], False: []}
        found: dict[bool, Losses] = {}
        for _ in range(self.rounds):
            for kept in times:
                self.host.frozen = frozen if kept else None
                seconds, found[kept] = self.taken(step)
                times[kept].append(seconds)
        ratios = [a / b for a, b in zip(times[False], times[True], strict=True)]
        return {
            "whole": round(median(times[False]), 4),
            "kept": round(median(times[True]), 4),
            "ratio": round(median(ratios), 2),
            "least": round(min(ratios), 2),
            "most": round(max(ratios), 2),
            "first_step": round(first, 4),
            "from_files": round(again, 4),
            "losses_of_rows_apart": float((found[True].nll - found[False].nll).abs().max()),
            "loss": float(found[False].nll.sum()) / int(found[False].tokens.sum()),
        }

    def taken(self, step: Callable[[], Losses]) -> tuple[float, Losses]:
        """Seconds of a step, and what it returns."""
        on_gpu = self.host.device.type == "cuda"
        clock = time.perf_counter if on_gpu else time.process_time
        if on_gpu:
            torch.cuda.synchronize()
        started = clock()
        found = step()
        if on_gpu:
            torch.cuda.synchronize()
        return clock() - started, found


def main() -> None:
    """Prints one line per method."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.frozen",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="smollm2-135m-instruct-q4_1")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="random weights in place of a model")
    parser.add_argument("--device", default="cuda", help="of random weights (default: cuda)")
    parser.add_argument("--context", type=int, default=300, help="longest example in tokens (default: 300)")
    parser.add_argument("--rows", type=int, default=BATCH, help=f"rows of a batch (default: {BATCH})")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    limit_threads(options.threads)
    if options.shape:
        host, batch = random_host(options.shape, torch.device(options.device)), random_batch(options.rows)
    else:
        model = ModelSpec(id=options.model, device="cpu")
        host, batch = _local(model), collate(examples(model, options.context, options.rows))
    bench, blocks = Bench(host, batch, options.rounds), host.info().blocks
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
            told_of = {"measured": "frozen", "of": told, "rows": len(batch), "device": host.device.type}
            print(json.dumps({**told_of, **bench.measured(prompt)}), flush=True)


def _local(model: ModelSpec) -> LocalLM:
    host = load_local(model).host
    assert isinstance(host, LocalLM)
    return host


if __name__ == "__main__":
    main()
