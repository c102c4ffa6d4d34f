"""What a GPU does with softprior's passes, in bfloat16: python -m benchmarks.gpu

A random model of Llama-3.2-1B's shape (or --shape small, for a try on a CPU), rows of mixed lengths with
their last four tokens as labels, 20 vectors at each place. Printed as JSON lines, one per measurement:
rates of matrix products; a training step of every method with the operations it needs, its share of the
measured matrix rate, the memory that it has to keep and its peak; the same step with padded rows, compiled,
and by PEFT on padded shuffled rows; kernels that steps start and how often they wait; generation by both;
trials packed into one pass. Times are medians of interleaved rounds after a warm-up, with their range.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiling
from transformers import AutoModelForCausalLM, LlamaConfig

from softprior.methods import METHODS
from softprior.models.local import LocalLM
from softprior.models.memory import BYTES, Form, Rows, Sizes, step_memory
from softprior.models.packing import ATTENTION
from softprior.models.protocol import Request
from softprior.prompt import Batch, Place, Prompt, Row, collate
from softprior.seeding import numpy_generator, torch_generator

TOKENS = 20
"""Vectors of a prompt."""

LABELS = 4
"""Label tokens of a row, its last ones."""

LENGTHS = (60, 300)
"""Shortest and longest row in tokens, as SQuAD's with `context_tokens: 256`."""

STEPS = 3
"""Steps that are profiled together."""

SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.2-1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "small": {
        "vocab_size": 1000,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "tie_word_embeddings": True,
    },
}


def configuration(shape: str) -> LlamaConfig:
    return LlamaConfig(**SHAPES[shape], max_position_embeddings=4096)


def random_model(shape: str, device: torch.device, attention: str) -> Any:
    """Random weights in bfloat16, the same in each call."""
    torch.manual_seed(0)
    with device:
        return AutoModelForCausalLM.from_config(
            configuration(shape), dtype=torch.bfloat16, attn_implementation=attention
        )


def random_host(shape: str, device: torch.device) -> LocalLM:
    """A host of random weights."""
    return LocalLM(random_model(shape, device, ATTENTION), "random")


def random_batch(rows: int, seed: int = 0) -> Batch:
    """Rows of mixed lengths."""
    draw = numpy_generator(0, "gpu", seed)
    made = []
    for row, length in enumerate(draw.integers(*LENGTHS, rows).tolist()):
        marks = [False] * (length - LABELS) + [True] * LABELS
        made.append(Row(str(row), draw.integers(5, 900, length).tolist(), marks, marks))
    return collate(made)


class Bench:
    """The two models on one device."""

    def __init__(self, shape: str, device: str, rounds: int) -> None:
        self.device, self.rounds = torch.device(device), rounds
        self.config = configuration(shape)
        ours, self.theirs = (random_model(shape, self.device, name) for name in (ATTENTION, "sdpa"))
        self.body = sum(p.numel() for p in ours.parameters()) - ours.get_input_embeddings().weight.numel()
        copied = copy.deepcopy(ours)  # before a host adds its hooks
        self.host, self.compiled = LocalLM(ours, "random"), LocalLM(copied, "random")
        self.compiled.compile()

    def prompt(self, method: str, seed: int = 0) -> dict[Place, Tensor]:
        """Random vectors at the places of a method, on the device."""
        info = self.host.info()
        places = METHODS[method].model_validate({"tokens": TOKENS}).places(info.blocks, info.stack)
        return {
            place: 0.02
            * torch.randn(TOKENS, self.host.width(place), generator=torch_generator(0, place.name, seed)).to(
                self.device
            )
            for place in places
        }

    def seconds(self, works: Sequence[Callable[[], object]]) -> list[list[float]]:
        """Seconds of each piece of work in interleaved rounds, after one round that warms up."""
        taken: list[list[float]] = [[] for _ in works]
        for round_ in range(self.rounds + 1):
            for times, work in zip(taken, works, strict=True):
                self.wait()
                started = time.perf_counter()
                work()
                self.wait()
                if round_:
                    times.append(time.perf_counter() - started)
        return taken

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def fits(self, work: Callable[[], object]) -> bool:
        """Whether the GPU has enough memory for a piece of work."""
        try:
            work()
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return False
        return True

    def peak(self, work: Callable[[], object]) -> float | None:
        """Megabytes that a piece of work adds at its peak to what stands in the GPU's memory."""
        if self.device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return round((torch.cuda.max_memory_allocated() - before) / 1e6, 1)

    def kept(self, batch: Batch, prompts: int = 1) -> float:
        """Megabytes that a `soft` step of ragged rows has to keep, see `models.memory`."""
        config = self.config
        assert config.head_dim is not None
        assert config.num_key_value_heads is not None
        sizes = Sizes(
            blocks=config.num_hidden_layers,
            hidden=config.hidden_size,
            queries=config.num_attention_heads * int(config.head_dim),
            keys=config.num_key_value_heads * int(config.head_dim),
            inner=config.intermediate_size,
            vocabulary=config.vocab_size,
        )
        rows = Rows(
            len(batch), batch.positions, int(batch.lengths.max()), int(batch.labels.sum()), prompts=prompts
        )
        found = step_memory(sizes, (Place(0),), TOKENS, rows, Form(BYTES["bfloat16"], "ragged"))
        return round((found.kept + found.logits) / 1e6, 1)

    def operations(self, batch: Batch, prompts: int = 1) -> float:
        """Operations that a `soft` step needs: products forward, and backward at what is not frozen.

        Two per weight and position forward and two for the gradient at the input; logits at labels alone;
        causal attention twice forward (scores and their sum of values) and four times backward.
        """
        lengths = batch.lengths.double()
        positions = float(lengths.sum()) + prompts * TOKENS
        pairs = (
            float((lengths * (lengths + 1) / 2 + lengths * TOKENS).sum())
            + prompts * TOKENS * (TOKENS + 1) / 2
        )
        assert self.config.head_dim is not None
        heads = self.config.num_attention_heads * int(self.config.head_dim)
        attention = 2 * 6 * heads * pairs * self.config.num_hidden_layers
        labels = float(batch.labels.sum())
        head = 4 * labels * self.config.hidden_size * self.config.vocab_size
        return float(4 * self.body * positions + head + attention)


def report(name: str, **values: object) -> None:
    """One JSON line."""
    print(json.dumps({"measured": name, **values}), flush=True)


def _spread(times: Sequence[float]) -> dict[str, float]:
    return {
        "ms": round(1e3 * median(times), 3),
        "ms_min": round(1e3 * min(times), 3),
        "ms_max": round(1e3 * max(times), 3),
    }


def rates(bench: Bench) -> float:
    """Operations per second of matrix products; the fastest is what shares are of."""
    hidden, wide = bench.config.hidden_size, bench.config.intermediate_size
    best = 0.0
    for positions in (512, 2048, 8192, 32768):
        left = torch.randn(positions, hidden, device=bench.device, dtype=torch.bfloat16)
        right = torch.randn(hidden, wide, device=bench.device, dtype=torch.bfloat16)

        def products(a: Tensor = left, b: Tensor = right) -> None:
            for _ in range(20):
                a @ b

        (times,) = bench.seconds([products])
        rate = 20 * 2 * positions * hidden * wide / median(times)
        best = max(best, rate)
        report("matrix product", positions=positions, tflops=round(rate / 1e12, 1))
    return best


def agreement(bench: Bench) -> None:
    """The same loss and gradient as PEFT, up to the rounding of bfloat16."""
    batch, prompt = random_batch(8), bench.prompt("soft")
    peft = _peft(bench, prompt)
    ours = bench.host.loss(prompt, batch.weighted(batch.weights / int(batch.labels.sum())), grad=True)
    assert ours.gradient is not None
    loss, gradient = _peft_step(bench, peft, batch)
    mine, theirs = ours.gradient[Place(0)].float().flatten(), gradient.float().flatten().to(bench.device)
    report(
        "agreement with PEFT",
        loss=float(ours.nll.sum()) / int(ours.tokens.sum()),
        peft=loss,
        cosine_of_gradients=round(float(torch.cosine_similarity(mine.to(bench.device), theirs, dim=0)), 5),
    )


def steps(bench: Bench, rate: float) -> None:
    """A training step of each method and PEFT's, at several batch sizes."""
    peft = _peft(bench, bench.prompt("soft"))
    for rows in (8, 32, 128):
        batch = random_batch(rows)
        works: dict[str, Callable[[], object]] = {
            method: partial(bench.host.loss, bench.prompt(method), batch, grad=True)
            for method in ("soft", "deep", "prefix")
        }
        works["soft, padded rows"] = partial(padded, bench, works["soft"])
        works["soft, compiled"] = partial(bench.compiled.loss, bench.prompt("soft"), batch, grad=True)
        if bench.fits(partial(_peft_step, bench, peft, batch)):
            works["PEFT, soft"] = partial(_peft_step, bench, peft, batch)
        else:
            report("out of memory", of="PEFT, soft", rows=rows)
        taken = dict(zip(works, bench.seconds(list(works.values())), strict=True))
        for name, times in taken.items():
            needed = {}
            if name == "soft":
                achieved = bench.operations(batch) / median(times)
                needed = {
                    "tflops": round(achieved / 1e12, 1),
                    "of_matrix_rate": round(achieved / rate, 3),
                    "kept_mb": bench.kept(batch),
                }
            report(
                "step",
                of=name,
                rows=rows,
                positions=batch.positions,
                padded=batch.tokens.numel(),
                **_spread(times),
                **needed,
                peak_mb=bench.peak(works[name]),
            )
        for slower in (name for name in taken if name not in ("soft", "deep", "prefix")):
            ratios = [a / b for a, b in zip(taken[slower], taken["soft"], strict=True)]
            report(
                f"{slower} against soft",
                rows=rows,
                ratio=round(median(ratios), 2),
                least=round(min(ratios), 2),
            )


def padded(bench: Bench, work: Callable[[], object]) -> None:
    """Work without the kernel for rows of different lengths, see `models.ragged`."""
    bench.host.ragged = False
    try:
        work()
    finally:
        bench.host.ragged = True


def packed(bench: Bench, rate: float) -> None:
    """Trials in one pass against one pass each."""
    for trials in (1, 2, 4, 8, 16):
        requests = [Request(bench.prompt("soft", t), random_batch(8, t), True) for t in range(trials)]

        def alone(asked: list[Request] = requests) -> None:
            for request in asked:
                bench.host.loss(request.prompt, request.batch, grad=True)

        def together(asked: list[Request] = requests) -> None:
            bench.host.loss_many(asked)

        works: list[Callable[[], object]] = [
            alone,
            together,
            partial(padded, bench, together),
            partial(bench.compiled.loss_many, requests),
        ]
        first, second, third, fourth = bench.seconds(works)
        needed = sum(bench.operations(request.batch) for request in requests)
        report(
            "packed trials",
            trials=trials,
            rows=8,
            **_spread(second),
            ratio=round(median(a / b for a, b in zip(first, second, strict=True)), 2),
            of_matrix_rate=round(needed / median(second) / rate, 3),
            padded_rows=round(median(a / b for a, b in zip(third, second, strict=True)), 2),
            compiled=round(median(a / b for a, b in zip(fourth, second, strict=True)), 2),
            compiled_of_matrix_rate=round(needed / median(fourth) / rate, 3),
            kept_mb=round(sum(bench.kept(request.batch) for request in requests), 1),
            peak_mb=bench.peak(together),
        )


def generation(bench: Bench, _: float) -> None:
    """Greedy answers of 32 tokens to 32 rows, without an early stop."""
    batch, prompt = random_batch(32), bench.prompt("soft")
    nothing = torch.zeros_like(batch.labels)
    asked = replace(batch, labels=nothing, scored=nothing)
    peft = _peft(bench, prompt)
    left = torch.arange(asked.tokens.shape[1])[None] >= (asked.tokens.shape[1] - asked.lengths)[:, None]
    tokens = torch.zeros_like(asked.tokens)
    tokens[left] = torch.cat([row[:n] for row, n in zip(asked.tokens, asked.lengths.tolist(), strict=True)])
    inputs = {"input_ids": tokens.to(bench.device), "attention_mask": left.long().to(bench.device)}
    options = {"max_new_tokens": 32, "min_new_tokens": 32, "do_sample": False, "pad_token_id": 0}
    works: list[Callable[[], object]] = [
        partial(bench.host.generate, prompt, asked, max_new=32, stop=frozenset()),
        partial(peft.generate, **inputs, **options),
    ]
    ours, theirs = bench.seconds(works)
    ratio = round(median(a / b for a, b in zip(theirs, ours, strict=True)), 2)
    report("generation", rows=32, new=32, **_spread(ours), peft_ms=_spread(theirs)["ms"], ratio=ratio)


def starts(bench: Bench, _: float) -> None:
    """How many kernels a step of 8 rows starts, how often it waits for the GPU, and how long that works."""
    batch = random_batch(8)
    works: dict[str, Callable[[], object]] = {
        method: partial(bench.host.loss, bench.prompt(method), batch, grad=True)
        for method in ("soft", "deep", "prefix")
    }
    works["PEFT, soft"] = partial(_peft_step, bench, _peft(bench, bench.prompt("soft")), batch)
    for name, work in works.items():
        seen = _profiled(bench, work, STEPS)
        started = sum(event.count for event in seen if "LaunchKernel" in event.key)
        waits = sum(event.count for event in seen if "Synchronize" in event.key)
        busy = sum(event.self_device_time_total for event in seen if event.device_type.name == "CUDA")
        report(
            "starts",
            of=name,
            rows=8,
            kernels=round(started / STEPS),
            waits=round(waits / STEPS, 1),
            busy_ms=round(busy / STEPS / 1e3, 2),
        )


def profile(bench: Bench, _: float) -> None:
    """Where the time of the GPU goes in steps of 32 rows, and that of the processor in steps of 8."""
    for rows, by in ((32, "self_cuda_time_total"), (8, "self_cpu_time_total")):
        work = partial(bench.host.loss, bench.prompt("soft"), random_batch(rows), grad=True)
        seen = _profiled(bench, work, STEPS)
        print(seen.table(sort_by=by, row_limit=25, max_name_column_width=60), flush=True)


def _profiled(bench: Bench, work: Callable[[], object], steps: int) -> Any:
    work()
    with profiling(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        for _ in range(steps):
            work()
        bench.wait()
    return seen.key_averages()


def _peft(bench: Bench, prompt: Prompt) -> Any:
    from peft import PromptTuningConfig, TaskType, get_peft_model

    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=TOKENS)
    peft: Any = get_peft_model(bench.theirs.eval(), config)
    with torch.no_grad():
        peft.prompt_encoder["default"].embedding.weight.copy_(prompt[Place(0)])
    return peft.to(bench.device)


def _peft_step(bench: Bench, peft: Any, batch: Batch) -> tuple[float, Tensor]:
    weight = peft.prompt_encoder["default"].embedding.weight
    mask = torch.arange(batch.tokens.shape[1])[None] < batch.lengths[:, None]
    labels = batch.tokens.masked_fill(~batch.labels, -100)
    weight.grad = None
    out = peft(
        input_ids=batch.tokens.to(bench.device),
        attention_mask=mask.long().to(bench.device),
        labels=labels.to(bench.device),
        use_cache=False,
    )
    out.loss.backward()
    return float(out.loss.detach()), weight.grad.clone()


PARTS = {"steps": steps, "starts": starts, "generation": generation, "packed": packed, "profile": profile}


def main() -> None:
    """Measures and prints all of it, or a part."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shape", choices=sorted(SHAPES), default="llama-3.2-1b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default: 7)")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=[*PARTS][:-1], help="in this order; all but the profile"
    )
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    report(
        "machine",
        device=torch.cuda.get_device_name() if on_gpu else platform.processor(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        shape=options.shape,
        dtype="bfloat16",
    )
    bench = Bench(options.shape, options.device, options.rounds)
    rate = rates(bench)
    agreement(bench)
    for part in options.parts:
        PARTS[part](bench, rate)


if __name__ == "__main__":
    main()
