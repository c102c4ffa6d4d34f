"""An epoch of training against PEFT in the Trainer of transformers: python -m benchmarks.trainer_step

Both sides train the same vectors on the same SQuAD questions, each of them once, with AdamW and clipped
gradients. The Trainer takes its batches shuffled, or grouped by length with its own `group_by_length`, which
sorts a quarter of so few batches together; softprior takes its own, of which it sorts up to 16 together.
First, two steps on the same batches in the same order must give the same vectors, so that both do the same
work. What each side reads is counted: texts and labels must be the same, pads are said. Time is the CPU time
of the process, without loading or tokenising; a ratio is the median over interleaved rounds. Each side is a
process of its own: softprior's starts as a worker does, the Trainer's as a script (`benchmarks.asked`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import islice
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.asked import Asked, answer, started
from benchmarks.needed import needed
from benchmarks.peft_step import flat
from benchmarks.result import of_rounds, tell
from benchmarks.sides import BATCH, Peft, prompt_of, training_split
from benchmarks.watched import Took, medians, timed
from softprior.inputs.specs import ModelSpec, Rate, TrainingSpec
from softprior.models.load import load_local, load_tokenizer
from softprior.prompt import collate
from softprior.results.posteriors import Vectors
from softprior.tasks.batching import training_batches
from softprior.tasks.prepared import PreparedSplit
from softprior.training.gradient import gradient
from softprior.training.optimizer import PromptOptimizer
from softprior.training.threads import limit_threads

RATE, CLIP = 1e-3, 1.0
"""Learning rate, and most of a gradient's norm."""

ORDERS = {"random": "shuffled", "group_by_length": "grouped by length"}
"""The Trainer's orders (`train_sampling_strategy`), and how the table calls them."""

ROUNDING = 1e-3
"""Most of a difference between the vectors of the two sides, of the way they have moved. AdamW's first steps
are as long for a small gradient as for a large one, so that rounding decides the sign of some."""


class Read(NamedTuple):
    """What one side has read: positions of texts, labels, and positions with pads.

    Softprior leaves pads out of most of its work.
    """

    texts: int
    labels: int
    padded: int


class Trained(NamedTuple):
    """All values of the vectors after training, what was read for them, and what that took."""

    vectors: list[float]
    read: Read
    took: Took


class Ours:
    """Softprior's steps."""

    def __init__(self, model: ModelSpec, prompt: Vectors, split: PreparedSplit) -> None:
        self._host, self._prompt, self._split = load_local(model).host, prompt, split

    def operations(self, batches: Sequence[list[int]]) -> float:
        """Operations that steps on batches of rows need."""
        made = [collate([self._split.row(i) for i in batch]) for batch in batches]
        return needed(self._host._model, self._prompt, made).operations

    def train(self, batches: Sequence[list[int]]) -> Trained:
        """A step on each batch of rows."""
        spec = TrainingSpec(steps=len(batches), batch=len(batches[0]), clip=CLIP, normalisation="step")
        optimizer = PromptOptimizer(self._prompt, Rate(value=RATE), spec)

        def work() -> None:
            for step, batch in enumerate(batches):
                found = gradient(self._host, self._split, spec, optimizer.vectors, [batch])
                optimizer.step(step, found.at)

        times = timed(work)
        made = [collate([self._split.row(i) for i in batch]) for batch in batches]
        texts, labels = sum(b.positions for b in made), sum(int(b.labels.sum()) for b in made)
        read = Read(texts, labels, sum(b.tokens.numel() for b in made))
        return Trained(flat(optimizer.vectors).tolist(), read, times)


class Theirs:
    """PEFT's model in the Trainer."""

    def __init__(self, model: ModelSpec, prompt: Vectors, split: PreparedSplit) -> None:
        from transformers import DataCollatorForSeq2Seq

        tokenizer: Any = load_tokenizer(model).tokenizer
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        self._model, self._prompt, self._split = model, prompt, split
        self._collate = DataCollatorForSeq2Seq(tokenizer)

    def train(self, order: str, rows: Sequence[int], batch: int, pieces: int) -> Trained:
        """One epoch of the rows, with `batch` of them per step, divided among a number of passes."""
        from transformers import Trainer, TrainingArguments

        peft = Peft(self._model, self._prompt)
        read: list[Read] = []

        def counted(examples: list[dict[str, list[int]]]) -> dict[str, Tensor]:
            made: dict[str, Tensor] = self._collate(examples)
            texts, labels = int(made["attention_mask"].sum()), int((made["labels"] != -100).sum())
            read.append(Read(texts, labels, made["input_ids"].numel()))
            return made

        with tempfile.TemporaryDirectory(prefix="softprior-trainer-") as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=batch // pieces,
                gradient_accumulation_steps=pieces,
                num_train_epochs=1,
                train_sampling_strategy=order,
                learning_rate=RATE,
                lr_scheduler_type="constant",
                weight_decay=0.0,
                max_grad_norm=CLIP,
                use_cpu=True,
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
            )
            data = [self._example(i) for i in rows]
            trainer = Trainer(model=peft.model, args=arguments, train_dataset=data, data_collator=counted)
            times = timed(trainer.train)
        total = Read(*(sum(column) for column in zip(*read, strict=True)))
        return Trained(flat(peft.vectors()).tolist(), total, times)

    def _example(self, index: int) -> dict[str, list[int]]:
        row = self._split.row(index)
        labels = [token if label else -100 for token, label in zip(row.tokens, row.labels, strict=True)]
        return {"input_ids": list(row.tokens), "attention_mask": [1] * len(labels), "labels": labels}


def require_equal(theirs: Trained, ours: Trained, before: list[float]) -> None:
    """Ends the process unless two trainings have read the same and come to the same vectors."""
    if theirs.read[:2] != ours.read[:2]:
        sys.exit(f"not the same batches: {theirs.read} and {ours.read}")
    start, there, here = torch.tensor(before), torch.tensor(theirs.vectors), torch.tensor(ours.vectors)
    error = float((there - here).norm() / (here - start).norm())
    if not error <= ROUNDING:
        sys.exit(f"not the same training: vectors differ by {error:.1e} of the way they have moved")
    print(f"equal: after two steps vectors differ by {error:.1e} of the way they have moved", flush=True)


def alone(options: argparse.Namespace) -> None:
    """Answers as one side."""
    limit_threads(options.threads)
    model = ModelSpec(id=options.model, device="cpu")
    prompt, split = prompt_of(options.method, model), training_split(model, options.context)
    rows = list(range(options.steps * options.batch))
    first = rows[: 2 * options.batch]
    if options.alone == "peer":
        peer, sizes = Theirs(model, prompt, split), (options.batch, options.pieces)
        epochs = {order: partial(peer.train, order, rows, *sizes) for order in ORDERS}
        answer(epochs | {"two steps": partial(peer.train, "sequential", first, *sizes)})
        return
    ours = Ours(model, prompt, split)
    order = training_batches([split.lengths[i] for i in rows], options.batch, seed=0)
    epoch = list(islice(order, options.steps))
    answer(
        {
            "start": flat(prompt).tolist,
            "two steps": partial(ours.train, [first[: options.batch], first[options.batch :]]),
            "softprior": partial(ours.train, epoch),
            "operations": partial(ours.operations, epoch),
        }
    )


def asked(side: Asked, what: str) -> Trained:
    """What a side has trained."""
    vectors, read, took = side.ask(what)
    return Trained(vectors, Read(*read), Took(*took))


def main() -> None:
    """Prints one line a round and the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trainer_step", description=__doc__)
    parser.add_argument("--method", choices=["soft", "prefix"], default="soft")
    parser.add_argument("--model", default="smollm2-135m-instruct-q4_1")
    parser.add_argument("--context", type=int, default=300, help="longest example in tokens (default: 300)")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"rows of a step (default: {BATCH})")
    parser.add_argument("--steps", type=int, default=16, help="of an epoch, at least 2 (default: 16)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument("--pieces", type=int, default=1, help="passes of the peer for a step (default: 1)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="also print results for `python -m benchmarks`")
    parser.add_argument("--alone", choices=("softprior", "peer"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch % options.pieces:
        parser.error(f"{options.batch} rows cannot be cut into {options.pieces} pieces; choose a divisor")
    if options.steps < 2:
        parser.error(f"--steps must be at least 2, not {options.steps}: two are compared first")
    if options.alone:
        alone(options)
        return
    ours, peer = (started("benchmarks.trainer_step", of, options.threads) for of in ("softprior", "peer"))
    # This is the warm-up too.
    require_equal(asked(peer, "two steps"), asked(ours, "two steps"), ours.ask("start"))
    sides = dict.fromkeys(ORDERS, peer) | {"softprior": ours}
    taken: dict[str, list[Trained]] = {name: [] for name in sides}
    for round_ in range(options.rounds):
        found = {name: asked(side, name) for name, side in sides.items()}
        counts = {(one.read.texts, one.read.labels) for one in found.values()}
        if len(counts) > 1:
            sys.exit(f"not the same examples: {sorted(counts)}")
        for name, one in found.items():
            taken[name].append(one)
        said = "; ".join(
            f"{name} {one.took.cpu:.2f} s CPU, {one.read.padded:,} positions with pads"
            for name, one in found.items()
        )
        print(f"round {round_ + 1}: {found['softprior'].read.texts:,} positions of texts; {said}", flush=True)
    tokens, operations = taken["softprior"][0].read.texts, ours.ask("operations")
    ours.end()
    peer.end()
    of = "" if options.batch == BATCH else f", {options.batch} rows"
    passes = "" if options.pieces == 1 else f" in {options.pieces} passes"
    for strategy, name in ORDERS.items():
        both = [[one.took for one in taken[side]] for side in (strategy, "softprior")]
        pairs = list(zip(*both, strict=True))
        ratios = [theirs.cpu / own.cpu for theirs, own in pairs]
        print(f"{name}: {median(ratios):.2f} times")
        if options.json:
            trainer, own = map(medians, both)
            what = f"training, `{options.method}`, {name}{of}: the Trainer's time{passes} over ours"
            tell(
                of_rounds(
                    what,
                    ratios,
                    "times (s CPU)",
                    own,
                    goal=2.0 if strategy == "random" else None,
                    ours=own.cpu,
                    peer=trainer.cpu,
                    tokens=tokens,
                    operations=operations,
                )
            )
            tell(
                of_rounds(
                    f"{what}, by the clock",
                    [theirs.seconds / own.seconds for theirs, own in pairs],
                    "times (s)",
                    own,
                    ours=own.seconds,
                    peer=trainer.seconds,
                    tokens=tokens,
                    operations=operations,
                )
            )


if __name__ == "__main__":
    main()
