"""One training step against Hugging Face PEFT: python -m benchmarks.peft_step [--method soft|deep|prefix]

Same model, data type, vectors and examples; equal loss and gradient are asserted first. PEFT has no `deep`,
whose peer is a loop over plain transformers, with vectors at every block on both sides. Time is the CPU time
of the process and wall time, as the median ratio over interleaved pairs, in three settings: the same
right-padded batch, an epoch of mixed lengths (the peer in shuffled batches padded to the longest row,
softprior in its own batches), and the same with softprior's batches, which are grouped by length, for both.
Before anything is timed, each side makes a step on the first batch and one on the longest.
Peak memory is that of a process of its own for each, measured before anything else is loaded. Where the
peer's step takes too much of it beside softprior, `--pieces` has it accumulate gradients, except when its
memory is measured. Each side is a process of its own: softprior's starts as a trial's worker does, the peer's
as a script (`benchmarks.asked`).

The limit of a step is the CPU time of the products that it needs, each measured by itself in the
same process: those of every block at every position that is not a pad, forward and back to the input, those
of causal attention, and the logits at labels.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch

from benchmarks.asked import Asked, answer, started
from benchmarks.result import Result, of_rounds, tell
from benchmarks.sides import BATCH, PEERS, examples, side
from benchmarks.watched import Took, forget_peak, medians, resident, timed
from softprior.inputs.specs import ModelSpec
from softprior.prompt import Batch, Row, collate
from softprior.results.posteriors import Vectors
from softprior.seeding import numpy_generator
from softprior.tasks.batching import training_batches
from softprior.training.threads import limit_threads

STEPS = 3
"""Steps of which the peak of memory is taken: the first one finds the heap without holes, by chance."""

SIDES = ("softprior", "peer")

SETTINGS = ("same batch", "mixed lengths", "grouped by length")


class Compared(NamedTuple):
    """What interleaved pairs took.

    Attributes:
        ratios: of the peer to softprior, of each pair.
        peer, ours: medians.
        tokens, operations: of the work, see `benchmarks.needed`.
    """

    ratios: list[Took]
    peer: Took
    ours: Took
    tokens: int
    operations: float


def compare(name: str, peer: Asked, ours: Asked, pairs: int) -> Compared:
    """Asks both for one setting, in turns."""
    taken = []
    for _ in range(pairs):
        theirs, own = Took(*peer.ask(name)), Took(*ours.ask(name))
        taken.append((theirs, own))
        ratio = theirs.cpu / own.cpu
        print(
            f"  {name}: peer {theirs.cpu:.2f} s CPU, softprior {own.cpu:.2f} s CPU, ratio {ratio:.2f}",
            flush=True,
        )
    ratios = [Took(*(a / b for a, b in zip(*pair, strict=True))) for pair in taken]
    theirs, own = map(medians, zip(*taken, strict=True))
    return Compared(ratios, theirs, own, *ours.ask(f"needed: {name}"))


def memory_of(of: str, threads: int) -> float:
    """Megabytes that the steps of one side add to a process that has loaded its model."""
    process = started("benchmarks.peft_step", of, threads)
    megabytes: float = process.ask("memory")
    process.end()
    return megabytes


def measure_memory(stepper: Any, batch: Any) -> float:
    """Megabytes that steps add to this process at their peak."""
    for weight in stepper.weights():
        weight.sum()  # they are mapped from a file, and come into memory when they are first read
    ctypes.CDLL(None).malloc_trim(0)  # what loading has freed would hide a part of the step's
    before = resident("VmRSS")
    forget_peak()
    for _ in range(STEPS):
        stepper.step(batch)
    return round(resident("VmHWM") - before)


def in_pieces(peer: Any, rows: list[Row], pieces: int) -> Callable[[], tuple[float, Vectors]]:
    """A step of the peer with its gradient accumulated over passes, each padded to its longest row."""
    batches = [collate(rows[i::pieces]) for i in range(pieces)]
    shares = [int(batch.labels.sum()) / sum(sum(row.labels) for row in rows) for batch in batches]

    def step() -> tuple[float, Vectors]:
        found = [(share, *peer.step(batch)) for share, batch in zip(shares, batches, strict=True)]
        places = found[0][2]
        loss = sum(share * loss for share, loss, _ in found)
        return loss, {p: torch.stack([share * part[p] for share, _, part in found]).sum(0) for p in places}

    return step


def flat(gradient: Vectors) -> torch.Tensor:
    """All values of a gradient, in the order of places."""
    return torch.cat([gradient[place].flatten() for place in sorted(gradient)])


def require_equal(theirs: tuple[float, list[float]], ours: tuple[float, list[float]]) -> None:
    """Ends the process if loss and gradient of the two sides are not equal up to rounding."""
    (their_loss, their_values), (our_loss, our_values) = theirs, ours
    their_gradient, our_gradient = torch.tensor(their_values), torch.tensor(our_values)
    error = float((their_gradient - our_gradient).norm() / their_gradient.norm())
    if abs(their_loss - our_loss) > 1e-4 * their_loss or not error <= 1e-3:
        sys.exit(f"not the same step: losses {their_loss} and {our_loss}, gradients differ by {error:.1e}")
    print(f"equal: losses {their_loss:.6f} and {our_loss:.6f}, gradients differ by {error:.1e} of their norm")


def alone(options: argparse.Namespace) -> None:
    """Answers as one side."""
    limit_threads(options.threads)
    model = ModelSpec(id=options.model, device="cpu")
    rows = examples(model, options.context, 4 * options.batch)
    same, stepper = collate(rows[: options.batch]), side(options.alone, options.method, model)
    shuffled = numpy_generator(0, "benchmark").permutation(len(rows)).reshape(-1, options.batch).tolist()
    order = training_batches([len(row.tokens) for row in rows], options.batch, seed=0)
    grouped = [next(order) for _ in range(len(rows) // options.batch)]
    own = [collate([rows[i] for i in batch]) for batch in grouped]

    def steps(chosen: Iterable[Sequence[int]]) -> list[Callable[[], tuple[float, Vectors]]]:
        """One for each batch of rows, of the peer in pieces."""
        given = [[rows[i] for i in batch] for batch in chosen]
        if options.alone == "peer":
            return [in_pieces(stepper, some, options.pieces) for some in given]
        return [partial(stepper.step, collate(some)) for some in given]

    (first,) = steps([range(options.batch)])
    epochs = {"mixed lengths": shuffled if options.alone == "peer" else grouped, "grouped by length": grouped}
    longest = max(grouped, key=lambda chosen: sum(len(rows[i].tokens) for i in chosen))
    epochs["longest batch"] = [longest]
    works = {name: steps(batches) for name, batches in epochs.items()} | {"same batch": [first]}

    def loss_and_gradient() -> tuple[float, list[float]]:
        loss, gradient = first()
        return loss, flat(gradient).tolist()

    def products() -> tuple[float, Took]:
        limit = stepper.needed(own).seconds()
        return limit, timed(lambda: [stepper.step(batch) for batch in own])

    def counted(batches: Sequence[Batch]) -> tuple[int, float]:
        found = stepper.needed(batches)
        return found.tokens, found.operations

    def shapes() -> dict[str, str]:
        padded = sum(len(chosen) * max(len(rows[i].tokens) for i in chosen) for chosen in shuffled)
        return {
            "same batch": f"{len(same)} rows, {same.positions} real of {same.tokens.numel()} with pads",
            "mixed lengths": f"{sum(b.positions for b in own)} real of {padded} with pads",
        }

    def times(name: str) -> Took:
        return timed(lambda: [step() for step in works[name]])

    answer(
        {name: partial(times, name) for name in works}
        | {f"needed: {name}": partial(counted, own) for name in SETTINGS}
        | {"needed: same batch": partial(counted, [same])}
        | {"step": loss_and_gradient, "products": products, "shapes": shapes}
        | {"memory": lambda: measure_memory(stepper, same)}
    )


def main() -> None:
    """Runs the comparison and prints ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peft_step", description=__doc__)
    parser.add_argument("--method", choices=list(PEERS), default="soft")
    parser.add_argument("--model", default="smollm2-135m-instruct-q4_1")
    parser.add_argument("--context", type=int, default=300, help="longest example in tokens (default: 300)")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs (default: 5)")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"rows of a step (default: {BATCH})")
    parser.add_argument("--pieces", type=int, default=1, help="passes of the peer for a step (default: 1)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="also print results for `python -m benchmarks`")
    parser.add_argument("--memory-of", choices=SIDES, help="only measure the memory of one side's steps")
    parser.add_argument("--alone", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch % options.pieces:
        parser.error(f"{options.batch} rows cannot be cut into {options.pieces} pieces; choose a divisor")
    if options.alone:
        alone(options)
        return
    if options.memory_of:
        print(json.dumps({"megabytes": memory_of(options.memory_of, options.threads)}))
        return

    memory = {of: memory_of(of, options.threads) for of in SIDES}
    ours, peer = (started("benchmarks.peft_step", of, options.threads) for of in SIDES)
    require_equal(peer.ask("step"), ours.ask("step"))
    peer.ask("longest batch"), ours.ask("longest batch")  # from here on, memory has been touched before
    found = {name: compare(name, peer, ours, options.pairs) for name in SETTINGS}
    limits = [ours.ask("products") for _ in range(options.pairs)]
    for name, shape in ours.ask("shapes").items():
        print(f"{name}: {shape}")
    ours.end()
    peer.end()
    for name, one in found.items():
        print(f"{name}: {median(ratio.cpu for ratio in one.ratios):.2f} times")
    shares = [(limit, Took(*spent)) for limit, spent in limits]
    told = ", ".join(f"{limit / spent.cpu:.3f}" for limit, spent in shares)
    print(f"products needed, of the CPU time of steps: {told}")
    print(f"memory of a step, MB: {memory}")
    if options.json:
        tell_all(options, found, shares, memory)


def tell_all(
    options: argparse.Namespace,
    found: dict[str, Compared],
    shares: list[tuple[float, Took]],
    memory: dict[str, float],
) -> None:
    """Prints the rows of the table.

    Args:
        shares: CPU seconds of products that steps need, and what the steps took.
        memory: of a step of each side, in MB.
    """
    of = "" if options.batch == BATCH else f", {options.batch} rows"
    peer = PEERS[options.method]
    passes = "" if options.pieces == 1 else f" in {options.pieces} passes"
    for name, one in found.items():
        goal = 2.0 if name == "mixed lengths" else None
        row = f"training step, `{options.method}`, {name}{of}: {peer} time{passes} over ours"
        tell(
            of_rounds(
                row,
                [ratio.cpu for ratio in one.ratios],
                "times (s CPU)",
                one.ours,
                goal=goal,
                ours=one.ours.cpu,
                peer=one.peer.cpu,
                tokens=one.tokens,
                operations=one.operations,
            )
        )
        if goal:
            tell(
                of_rounds(
                    f"{row}, by the clock",
                    [ratio.seconds for ratio in one.ratios],
                    "times (s)",
                    one.ours,
                    ours=one.ours.seconds,
                    peer=one.peer.seconds,
                    tokens=one.tokens,
                    operations=one.operations,
                )
            )
    spent, mixed = medians(took for _, took in shares), found["mixed lengths"]
    tell(
        of_rounds(
            f"training step, `{options.method}`, mixed lengths{of}: products that it needs over ours",
            [limit / took.cpu for limit, took in shares],
            "times (s CPU)",
            spent,
            goal=0.65 if options.method == "soft" else None,
            ours=spent.cpu,
            limit=median(limit for limit, _ in shares),
            tokens=mixed.tokens,
            operations=mixed.operations,
        )
    )
    what = "memory of a step" if options.method == "soft" else f"memory of a step, `{options.method}`"
    mine, theirs = memory["softprior"], memory["peer"]
    tell(
        Result(
            name=f"{what}{of}: ours over {peer}",
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
