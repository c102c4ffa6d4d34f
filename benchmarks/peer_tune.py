"""The same study with Ray Tune and PEFT, written the usual way: python -m benchmarks.peer_tune

Both train the same prompts on the same batches (20 vectors, AdamW, clipped gradients), measure the same
validation and test examples before and after, and save what they trained. The peer's trials load the model
each, pad their batches and compute all logits, as PEFT does. Throughput is trials over the time of the
whole command, Ray's start included; softprior's baseline, figures and MLflow run are in its time and count
for nothing. With --rates the trials of each seed differ in the rate, and softprior's take the losses of their
start from one another. Above 1 means that softprior does more. With more steps the ratio comes closer to that
of a step alone (benchmarks.peft_step).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.planned import planned
from benchmarks.result import of_rounds, tell
from benchmarks.watched import Took, medians, watched

TOKENS, RATE, CLIP = 20, 1e-3, 1.0
"""Vectors of a prompt, learning rate, and most of a gradient's norm."""


def main() -> None:
    """Prints one line a round and the median ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peer_tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="smollm2-135m-instruct-q4_1")
    parser.add_argument("--task", choices=["arithmetic", "squad"], default="squad")
    parser.add_argument("--context", type=int, default=96, help="tokens of a SQuAD example (default: 96)")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument(
        "--rates", type=int, default=1, help="of each seed, a divisor of --trials (default: 1)"
    )
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--examples", type=int, default=8, help="of validation and of test (default: 8)")
    parser.add_argument("--cores", type=int, default=2, help="of either side (default: 2)")
    parser.add_argument("--at-once", type=int, help="trials at a time (default: one per core)")
    parser.add_argument(
        "--shared", type=int, default=0, help="number of softprior's trials that share one model on all cores"
    )
    parser.add_argument("--shuffle", action="store_true", help="the peer's batches without order by length")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="also print results for `python -m benchmarks`")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        run_peer(json.loads(options.peer.read_text()))
        return
    if options.trials % options.rates:
        parser.error(
            f"{options.trials} trials cannot have {options.rates} rates of each seed; choose a divisor"
        )
    data = examples(options)
    runs: list[tuple[Took, Took]] = []
    for round_ in range(options.rounds):
        theirs, ours = peer(options, data), softprior(options)
        runs.append((theirs, ours))
        print(
            f"round {round_ + 1}: Tune and PEFT {theirs.seconds:.0f} s ({theirs.cpu:.0f} s CPU, "
            f"{theirs.memory:,.0f} MB), softprior {ours.seconds:.0f} s ({ours.cpu:.0f} s CPU, "
            f"{ours.memory:,.0f} MB); ratio {theirs.seconds / ours.seconds:.2f}",
            flush=True,
        )
    ratios = [theirs.seconds / ours.seconds for theirs, ours in runs]
    print(f"median: {median(ratios):.2f} times the trials per hour")
    if options.json:
        swept = f", {options.rates} rates" if options.rates > 1 else ""
        name = f"study of {options.trials} trials{swept}"
        theirs, ours = map(medians, zip(*runs, strict=True))
        tokens = planned(study(options))
        speeds = (
            median(3600 * options.trials / one.seconds for one in side) for side in zip(*runs, strict=True)
        )
        peer_speed, speed = speeds
        tell(
            of_rounds(
                f"{name}: ours per hour over Ray Tune and PEFT's",
                ratios,
                "times (trials per hour)",
                ours,
                goal=2.6 if swept else 2.3,
                ours=speed,
                peer=peer_speed,
                tokens=tokens,
            )
        )
        for what, unit, of in (("processor time", "s CPU", "cpu"), ("memory", "MB", "memory")):
            shares = [getattr(peer, of) / getattr(own, of) for peer, own in runs]
            row = f"{name}: Ray Tune and PEFT's {what} over ours"
            sides = {"ours": getattr(ours, of), "peer": getattr(theirs, of)}
            tell(of_rounds(row, shares, f"times ({unit})", ours, **sides, tokens=tokens))


def rates(options: argparse.Namespace) -> list[float]:
    """Those of each seed, at most twice as large as the first."""
    return [RATE * (1 + i / options.rates) for i in range(options.rates)]


def study(options: argparse.Namespace) -> dict[str, Any]:
    """Trials that differ in the seed and in the rate."""
    tasks: dict[str, Any] = {
        "squad": {"context_tokens": options.context},
        "arithmetic": {"modules": ["two_digit_addition"]},
    }
    sizes = {"validation_examples": options.examples, "test_examples": options.examples}
    at_once = options.shared or options.at_once or options.cores
    found = {
        "name": "peer",
        "model": {"id": options.model, "device": "cpu"},
        "priors": ["isotropic"],
        "methods": [{"soft": {"tokens": TOKENS}}],
        "tasks": [{options.task: tasks[options.task] | sizes}],
        "rates": rates(options),
        "seeds": list(range(options.trials // options.rates)),
        "training": {
            "steps": options.steps,
            "batch": options.batch,
            "clip": CLIP,
            "normalisation": "step",  # as the loss of transformers, which the peer takes
        },
        "evaluation": {
            "examples": options.examples,
            "generate": 0,
            "batch": options.batch,
            "context_shuffle": False,
        },
        "resources": {"cpus": max(1, options.cores // at_once), "concurrent": at_once},
    }
    return found | ({"placement": {"hosts": "shared", "cpus": options.cores}} if options.shared else {})


def examples(options: argparse.Namespace) -> dict[str, Any]:
    """The study's examples as tokens and labels, and the batches of every trial, for the peer to read."""
    from itertools import islice

    from softprior.assets.models import resolve_model
    from softprior.inputs.specs import ModelSpec
    from softprior.models.load import load_tokenizer
    from softprior.seeding import numpy_generator
    from softprior.tasks import TASKS
    from softprior.tasks.batching import evaluation_batches, training_batches
    from softprior.tasks.prepare import prepare
    from softprior.tasks.prepared import PreparedSplit

    model = ModelSpec(id=options.model, device="cpu")
    tokenizer, fingerprint = load_tokenizer(model)
    ((name, parameters),) = study(options)["tasks"][0].items()
    prepared = prepare(TASKS[name].model_validate(parameters), tokenizer, fingerprint)

    def batches(split: PreparedSplit) -> list[Any]:
        chosen = evaluation_batches(split.lengths, options.batch)
        return [[example(split, i) for i in batch] for batch in chosen]

    train, seeds = prepared.train, study(options)["seeds"]
    if options.shuffle:
        count = options.steps * options.batch
        draws = [numpy_generator(seed, "peer").permutation(len(train))[:count] for seed in seeds]
        orders = [draw.reshape(options.steps, -1).tolist() for draw in draws]
    else:
        orders = [
            list(islice(training_batches(train.lengths, options.batch, seed), options.steps))
            for seed in seeds
        ]
    return {
        "model": str(resolve_model(model).folder),
        "train": [[[example(train, i) for i in batch] for batch in order] for order in orders],
        "validation": batches(prepared.validation),
        "test": batches(prepared.test),
    }


def example(split: Any, index: int) -> dict[str, list[int]]:
    """One example as the model's own loss takes it: -100 where there is nothing to learn."""
    row = split.row(index)
    labels = [token if label else -100 for token, label in zip(row.tokens, row.labels, strict=True)]
    return {"input_ids": list(row.tokens), "labels": labels}


def softprior(options: argparse.Namespace) -> Took:
    """What `jobs.study` takes."""
    with tempfile.TemporaryDirectory(prefix="softprior-peer-") as folder:
        file = Path(folder) / "study.yaml"
        file.write_text(yaml.safe_dump(study(options)))
        return ran(["jobs.study", str(file), "--results", folder], Path(folder))


def peer(options: argparse.Namespace, data: dict[str, Any]) -> Took:
    """What the peer takes."""
    with tempfile.TemporaryDirectory(prefix="softprior-peer-") as folder:
        at_once = options.at_once or options.cores
        (Path(folder) / "data.json").write_text(json.dumps(data))
        config = {
            "folder": folder,
            "seeds": study(options)["seeds"],
            "rates": rates(options),
            "cores": options.cores,
            "cpus": max(1, options.cores // at_once),
            "at_once": at_once,
        }
        file = Path(folder) / "config.json"
        file.write_text(json.dumps(config))
        return ran(["benchmarks.peer_tune", "--peer", str(file)], Path(folder))


def ran(arguments: list[str], folder: Path) -> Took:
    """A command with a Ray of its own; what it prints goes to the folder."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return watched([sys.executable, "-m", *arguments], environment, folder / "output.txt")


def run_peer(config: dict[str, Any]) -> None:
    """The peer's driver."""
    import ray
    from ray import tune

    ray.init(address="local", num_cpus=config["cores"], include_dashboard=False, log_to_driver=False)
    tuner = tune.Tuner(
        tune.with_resources(train_prompt, {"cpu": config["cpus"]}),
        param_space={
            "seed": tune.grid_search(config["seeds"]),
            "rate": tune.grid_search(config["rates"]),
            **config,
        },
        tune_config=tune.TuneConfig(metric="test_loss", mode="min", max_concurrent_trials=config["at_once"]),
        run_config=tune.RunConfig(name="trials", storage_path=config["folder"], verbose=0),
    )
    results = tuner.fit()
    ended = [results[i] for i in range(len(results))]
    losses = [(result.metrics or {})["test_loss"] for result in ended if not result.error]
    if len(losses) < len(config["seeds"]) * len(config["rates"]) or not all(map(math.isfinite, losses)):
        sys.exit(f"the peer's trials failed: {results.errors[:1]} {losses}")
    ray.shutdown()


def train_prompt(config: dict[str, Any]) -> None:
    """One trial of the peer."""
    import torch
    from peft import PromptTuningConfig, TaskType, get_peft_model
    from ray import tune
    from torch.nn.utils.rnn import pad_sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(config["cpus"])
    torch.manual_seed(config["seed"])
    data = json.loads((Path(config["folder"]) / "data.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(data["model"])
    base = AutoModelForCausalLM.from_pretrained(data["model"], dtype=torch.float32)
    prompt = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=TOKENS)
    model = get_peft_model(base, prompt)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config["rate"], weight_decay=0.0)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def loss(rows: list[dict[str, list[int]]]) -> torch.Tensor:
        def column(values: list[list[int]], fill: int) -> torch.Tensor:
            return pad_sequence(
                [torch.tensor(value) for value in values], batch_first=True, padding_value=fill
            )

        found: torch.Tensor = model(
            input_ids=column([row["input_ids"] for row in rows], pad),
            attention_mask=column([[1] * len(row["input_ids"]) for row in rows], 0),
            labels=column([row["labels"] for row in rows], -100),
            use_cache=False,
        ).loss
        return found

    @torch.no_grad()
    def evaluate(split: str) -> float:
        total, tokens = 0.0, 0
        for rows in data[split]:
            count = sum(label != -100 for row in rows for label in row["labels"])
            total, tokens = total + float(loss(rows)) * count, tokens + count
        return total / tokens

    before = {f"initial_{split}_loss": evaluate(split) for split in ("validation", "test")}
    for rows in data["train"][config["seed"]]:
        optimizer.zero_grad()
        loss(rows).backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
    after = {f"{split}_loss": evaluate(split) for split in ("validation", "test")}
    name = f"{config['seed']}-{config['rate']:g}"
    model.save_pretrained(str(Path(config["folder"]) / "prompts" / name))
    tune.report(before | after)


if __name__ == "__main__":
    main()
