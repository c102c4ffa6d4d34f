"""Training steps that start at the first block with vectors, against whole ones: python -m benchmarks.frozen

Same model, same batch, same vectors; medians of interleaved rounds, one JSON line per method. Seconds are CPU
seconds of the process, and on a GPU those of a clock. The first step computes what is kept, the first step of
another process reads it from files, and later steps have it in memory; first steps also check on two short
rows that starting there gives what whole passes give. `--shape llama-3.2-1b` takes random weights
of that shape on a GPU, in bfloat16, as `benchmarks.gpu` does; SQuAD on SmolLM2 is what it takes otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from benchmarks.gpu import SHAPES, random_batch, random_host
from benchmarks.needed import Needed, needed
from benchmarks.result import of_rounds, tell
from benchmarks.sides import BATCH, TOKENS, examples
from benchmarks.watched import Took, medians, timed
from softprior.assets.cache import VARIABLE
from softprior.inputs.labels import counted
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

    def measured(self, prompt: Prompt) -> dict[str, Any]:
        """Seconds of steps with and without what is kept, and by how much losses differ."""

        def step() -> Losses:
            return self.host.loss(prompt, self.batch, grad=True)

        self.host.frozen = None
        step()  # warms up
        self.host.keep_rows(KeptRows(FrozenCache()))
        frozen = self.host.frozen
        first, _ = self.taken(step)
        times: dict[str, list[Took]] = {kind: [] for kind in ("whole", "kept", "from_files")}
        found: dict[str, Losses] = {}
        for _ in range(self.rounds):
            for kind, seconds in times.items():
                self.host.frozen = frozen if kind == "kept" else None
                if kind == "from_files":
                    self.host.keep_rows(KeptRows(FrozenCache()))
                taken, found[kind] = self.taken(step)
                seconds.append(taken)
        chosen = {kind: [self.seconds(one) for one in taken] for kind, taken in times.items()}
        return {
            **{kind: median(seconds) for kind, seconds in chosen.items()},
            "took": {kind: medians(taken) for kind, taken in times.items()},
            "ratios": _ratios(chosen["whole"], chosen["kept"]),
            "ratios_from_files": _ratios(chosen["whole"], chosen["from_files"]),
            "first_step": self.seconds(first),
            "losses_of_rows_apart": float((found["kept"].nll - found["whole"].nll).abs().max()),
            "loss": float(found["whole"].nll.sum()) / int(found["whole"].tokens.sum()),
        }

    def taken(self, step: Callable[[], Losses]) -> tuple[Took, Losses]:
        """What a step takes, and what it returns."""
        found: list[Losses] = []

        def ended() -> None:
            found.append(step())
            if self._on_gpu:
                torch.cuda.synchronize()

        if self._on_gpu:
            torch.cuda.synchronize()
        return timed(ended), found[0]

    def seconds(self, took: Took) -> float:
        """Those that count: by the clock on a GPU, of the processor elsewhere."""
        return took.seconds if self._on_gpu else took.cpu

    @property
    def _on_gpu(self) -> bool:
        return self.host.device.type == "cuda"


def _ratios(whole: list[float], less: list[float]) -> list[float]:
    return [a / b for a, b in zip(whole, less, strict=True)]


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
    parser.add_argument("--json", action="store_true", help="also print results for `python -m benchmarks`")
    options = parser.parse_args()
    if options.shape and options.json:
        parser.error("--json is for results of a model on CPUs; leave out --shape or --json")
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
            found = bench.measured(prompt)
            told_of = {"measured": "frozen", "of": told, "rows": len(batch), "device": host.device.type}
            print(json.dumps({**told_of, **found}), flush=True)
            if options.json:
                work = needed(host._model, prompt, [batch], kept=True)
                tell_all(f"{told}, {counted(options.threads, 'thread')}", found, work)


def tell_all(what: str, found: dict[str, Any], work: Needed) -> None:
    """Prints the rows of the table."""
    for name, taken, ratios in (
        ("steps", "kept", "ratios"),
        ("first step of another process", "from_files", "ratios_from_files"),
    ):
        tell(
            of_rounds(
                f"`model.frozen_cache`, {what}, {name}: whole steps' time over ours",
                found[ratios],
                "times (s CPU)",
                found["took"][taken],
                goal=4.0,
                ours=found[taken],
                peer=found["whole"],
                tokens=work.tokens,
                operations=work.operations,
            )
        )


def _local(model: ModelSpec) -> LocalLM:
    host = load_local(model).host
    assert isinstance(host, LocalLM)
    return host


if __name__ == "__main__":
    main()
