"""One soft-prompt training step against Hugging Face PEFT: python -m benchmarks.peft_step

Same model, data type, prompt vectors and examples; equal loss and gradient are asserted first. Time is
the CPU time of the process and wall time, as the median ratio over interleaved pairs, in three settings:
the same right-padded batch, an epoch of mixed lengths (PEFT in shuffled batches padded to the longest row,
softprior in its own batches), and the same with softprior's batches, which are grouped by length, for both.
Peak memory is that of a process of its own for each.

The limit of a step is the CPU time of the products that it needs, each measured by itself in the same
process: those of every block at every position that is not a pad, forward and back to the input, those of
causal attention, and the logits at labels.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.result import Result, tell
from softprior.assets.models import resolve_model
from softprior.inputs.specs import ModelSpec
from softprior.models.load import load_local
from softprior.prompt import Batch, Place, Row, collate
from softprior.seeding import numpy_generator, torch_generator
from softprior.tasks import TASKS
from softprior.tasks.batching import training_batches
from softprior.tasks.prepare import prepare
from softprior.training.threads import limit_threads

TOKENS = 20
"""Vectors of a prompt."""

BATCH = 8
"""Rows of a step."""

STEPS = 3
"""Steps of which the peak of memory is taken: the first one finds the heap without holes, by chance."""


class Softprior:
    """A step of softprior: the loss and its gradient at the prompt."""

    def __init__(self, model: ModelSpec, prompt: Tensor) -> None:
        self._host = load_local(model).host
        self._prompt = {Place(0): prompt}

    def limit(self, batch: Batch) -> float:
        """CPU seconds of the products that a step needs, at the rate at which this process makes them."""
        model: Any = self._host._model
        positions = len(self._prompt[Place(0)]) + batch.positions
        labels = int(batch.labels.sum())
        layers = Counter(
            (module.in_features, module.out_features)
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and name != "lm_head"
        )
        seconds = 2 * product_seconds(labels, model.lm_head.in_features, model.lm_head.out_features)
        for (inputs, outputs), count in layers.items():
            forward = product_seconds(positions, inputs, outputs)
            seconds += count * (forward + product_seconds(positions, outputs, inputs))
        config = model.config
        front = len(self._prompt[Place(0)])
        seen = front * (front + 1) / 2 + sum(
            length * front + length * (length + 1) / 2 for length in batch.lengths.tolist()
        )
        # Two products forward and four back, of 2 operations each for every value of every head.
        operations = 12 * seen * config.num_attention_heads * config.head_dim * config.num_hidden_layers
        square = 1024
        rate = 2 * square**3 / product_seconds(square, square, square)
        return float(seconds + operations / rate)

    def weights(self) -> Iterable[Tensor]:
        model: torch.nn.Module = self._host._model
        return model.parameters()

    def step(self, batch: Batch) -> tuple[float, Tensor]:
        weighted = batch.weighted(batch.weights / int(batch.labels.sum()))
        losses = self._host.loss(self._prompt, weighted, grad=True)
        assert losses.gradient is not None
        return float(losses.nll.sum()) / int(losses.tokens.sum()), losses.gradient[Place(0)]


def _weight(model: Any) -> Tensor:
    """The trained vectors of a model with PEFT's prompt tuning."""
    found: Tensor = model.prompt_encoder["default"].embedding.weight
    return found


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad.clone()


class Peft:
    """The same step with PEFT's prompt tuning, written the usual way."""

    def __init__(self, model: ModelSpec, prompt: Tensor) -> None:
        from peft import PromptTuningConfig, TaskType, get_peft_model
        from transformers import AutoModelForCausalLM

        folder = resolve_model(model).folder
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, model.dtype))
        config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=len(prompt))
        self._base = base
        self._model: Callable[..., Any] = get_peft_model(base.eval(), config)
        self._weight = _weight(self._model)
        with torch.no_grad():
            self._weight.copy_(prompt)

    def weights(self) -> Iterable[Tensor]:
        return self._base.parameters()

    def step(self, batch: Batch) -> tuple[float, Tensor]:
        mask = torch.arange(batch.tokens.shape[1])[None] < batch.lengths[:, None]
        labels = batch.tokens.masked_fill(~batch.labels, -100)
        self._weight.grad = None
        out = self._model(input_ids=batch.tokens, attention_mask=mask.long(), labels=labels, use_cache=False)
        out.loss.backward()
        return float(out.loss.detach()), _gradient(self._weight)


SIDES: dict[str, Callable[[ModelSpec, Tensor], Any]] = {"softprior": Softprior, "peft": Peft}


def examples(model: ModelSpec, context: int, count: int) -> list[Row]:
    """SQuAD questions of up to `context` tokens, of mixed lengths."""
    loaded = load_local(model)
    task = TASKS["squad"].model_validate({"context_tokens": context})
    split = prepare(task, loaded.tokenizer, loaded.fingerprint).train
    return [split.row(i) for i in range(count)]


def product_seconds(rows: int, inputs: int, outputs: int) -> float:
    """CPU seconds of one product [rows, inputs] x [inputs, outputs], the least of five."""
    left, right = torch.ones(rows, inputs), torch.ones(outputs, inputs)
    return min(timed(lambda: left @ right.T)[0] for _ in range(5))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of a piece of work."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def compare(
    name: str, peft: Callable[[], object], ours: Callable[[], object], pairs: int
) -> dict[str, float]:
    """Median ratio peft / softprior over interleaved pairs, after one warm-up of each."""
    peft(), ours()
    ratios, seconds = [], []
    for _ in range(pairs):
        a, b = timed(peft), timed(ours)
        seconds.append((a[0], b[0]))
        ratios.append((a[0] / b[0], a[1] / b[1]))
        print(
            f"  {name}: peft {a[0]:.2f} s CPU, softprior {b[0]:.2f} s CPU, ratio {ratios[-1][0]:.2f}",
            flush=True,
        )
    cpu, wall = ([pair[i] for pair in ratios] for i in (0, 1))
    return {
        "cpu_ratio": median(cpu),
        "cpu_min": min(cpu),
        "cpu_max": max(cpu),
        "wall_ratio": median(wall),
        "peer": median(pair[0] for pair in seconds),
        "ours": median(pair[1] for pair in seconds),
        "rounds": pairs,
    }


def resident(name: str) -> float:
    """Megabytes of this process, now (`VmRSS`) or at its peak (`VmHWM`)."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) / 1024


def peak_memory(side: str, arguments: list[str]) -> float:
    """Megabytes that the steps of one side add to a process that has loaded its model."""
    command = [sys.executable, "-m", "benchmarks.peft_step", *arguments, "--memory-of", side]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  our own words
    return float(json.loads(done.stdout.splitlines()[-1])["megabytes"])


def main() -> None:
    """Runs the comparison and prints ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peft_step", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct-q4_1")
    parser.add_argument("--context", type=int, default=300, help="longest example in tokens (default: 300)")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs (default: 5)")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"rows of a step (default: {BATCH})")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="also print results for `python -m benchmarks`")
    parser.add_argument("--memory-of", choices=list(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    limit_threads(options.threads)
    model = ModelSpec(id=options.model, device="cpu")
    rows = examples(model, options.context, 4 * options.batch)
    embedding = load_local(model).host.embed(torch.arange(1000))
    prompt = embedding[torch.randperm(1000, generator=torch_generator(0, "benchmark"))[:TOKENS]].clone()
    same = collate(rows[: options.batch])

    if options.memory_of:
        side = SIDES[options.memory_of](model, prompt)
        for weight in side.weights():
            weight.sum()  # they are mapped from a file, and come into memory when they are first read
        ctypes.CDLL(None).malloc_trim(0)  # what loading has freed would hide a part of the step's
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak that loading reached
        for _ in range(STEPS):
            side.step(same)
        print(json.dumps({"megabytes": round(resident("VmHWM") - before)}))
        return

    peft, ours = Peft(model, prompt), Softprior(model, prompt)
    (their_loss, their_gradient), (our_loss, our_gradient) = peft.step(same), ours.step(same)
    error = float((their_gradient - our_gradient).norm() / their_gradient.norm())
    if abs(their_loss - our_loss) > 1e-4 * their_loss or error > 1e-3:
        sys.exit(f"not the same step: losses {their_loss} and {our_loss}, gradients differ by {error:.1e}")
    print(f"equal: losses {their_loss:.6f} and {our_loss:.6f}, gradients differ by {error:.1e} of their norm")

    shuffled = numpy_generator(0, "benchmark").permutation(len(rows)).reshape(-1, options.batch)
    random = [collate([rows[i] for i in chosen]) for chosen in shuffled]
    order = training_batches([len(row.tokens) for row in rows], options.batch, seed=0)
    own = [collate([rows[i] for i in next(order)]) for _ in range(len(rows) // options.batch)]
    results: dict[str, Any] = {
        "same batch": compare("same batch", lambda: peft.step(same), lambda: ours.step(same), options.pairs),
        "mixed lengths": compare(
            "mixed lengths",
            lambda: [peft.step(batch) for batch in random],
            lambda: [ours.step(batch) for batch in own],
            max(1, options.pairs // 2),
        ),
        "grouped by length": compare(
            "grouped by length",
            lambda: [peft.step(batch) for batch in own],
            lambda: [ours.step(batch) for batch in own],
            max(1, options.pairs // 2),
        ),
    }
    shares = []
    for _ in range(options.pairs):
        limit, (spent, _) = sum(map(ours.limit, own)), timed(lambda: [ours.step(batch) for batch in own])
        shares.append((limit / spent, limit, spent))
    shares.sort()
    results["products needed, of the CPU time of a step"] = [round(share, 3) for share, _, _ in shares]
    arguments = [a for a in sys.argv[1:] if a != "--memory-of"]
    memory = {side: peak_memory(side, arguments) for side in SIDES}
    results["memory of a step, MB"] = memory
    padded = sum(batch.tokens.numel() for batch in random)
    results["shapes"] = {
        "same batch": f"{len(same)} rows, {same.positions} real of {same.tokens.numel()} padded positions",
        "mixed lengths": f"{sum(b.positions for b in random)} real of {padded} padded positions",
    }
    if not options.json:
        print(json.dumps(results, indent=1))
        return
    of = "" if options.batch == BATCH else f", {options.batch} rows"
    for name, goal in (("same batch", None), ("mixed lengths", 2.0), ("grouped by length", None)):
        found = results[name]
        tell(
            Result(
                name=f"training step, `soft`, {name}{of}: PEFT's time over ours",
                value=found["cpu_ratio"],
                low=found["cpu_min"],
                high=found["cpu_max"],
                ours=found["ours"],
                peer=found["peer"],
                cpu=found["ours"],
                unit="times (s CPU)",
                goal=goal,
                rounds=found["rounds"],
            )
        )
    share, limit, spent = shares[len(shares) // 2]
    tell(
        Result(
            name=f"training step, `soft`, mixed lengths{of}: products that it needs over ours",
            value=share,
            low=shares[0][0],
            high=shares[-1][0],
            ours=spent,
            limit=limit,
            cpu=spent,
            unit="times (s CPU)",
            goal=0.65,
            rounds=len(shares),
        )
    )
    mine, theirs = memory["softprior"], memory["peft"]
    tell(
        Result(
            name=f"memory of a step{of}: ours over PEFT's",
            value=mine / theirs,
            ours=mine,
            peer=theirs,
            memory=mine,
            unit="times (MB)",
            goal=0.4,
            most=True,
            rounds=1,
        )
    )


if __name__ == "__main__":
    main()
