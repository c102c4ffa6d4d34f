"""Greedy answers against Hugging Face PEFT's `generate`: python -m benchmarks.generation

The same model, prompt vectors and SQuAD questions of mixed lengths on both sides, and the same number of new
tokens for each row, without an early stop. PEFT gets left-padded batches of 16 in the order of the rows, as
is usual, and also all rows that softprior takes at a time, in order of length: softprior orders them, and
takes two batches at a time where each has a thread. Answers are compared with PEFT's row by row, which pads
nothing. A ratio is PEFT's processor time over ours, as the median over interleaved rounds. Each side is a
process of its own: softprior's starts as a trial's worker does, PEFT's as a script (`benchmarks.asked`).

A last line says which share of our time is the pass over the input (one new token).
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.asked import answer, started
from benchmarks.needed import needed
from benchmarks.result import of_rounds, tell
from benchmarks.sides import TOKENS, Peft, examples
from benchmarks.watched import Took, medians, timed
from softprior.inputs.specs import ModelSpec
from softprior.models.load import load_local
from softprior.prompt import Place, Row, collate
from softprior.seeding import torch_generator
from softprior.training.evaluation import answer_batches
from softprior.training.threads import limit_threads

BATCH = 16
"""Rows of a batch, as in evaluation's."""


def inputs_of(rows: list[Row]) -> list[Row]:
    """The rows without their answers."""
    found = []
    for row in rows:
        length = row.scored.index(True)
        nothing = [False] * length
        found.append(Row(row.id, row.tokens[:length], nothing, nothing))
    return found


def with_answer(row: Row, new: int) -> Row:
    """An input with as many tokens behind it as are read to write an answer, each of which needs logits."""
    length = len(row.tokens) + new - 1  # the last one is not read again
    labels = [i >= length - new for i in range(length)]
    return Row(row.id, [*row.tokens, *row.tokens[:1] * (new - 1)], labels, labels)


def left_padded(rows: list[Row]) -> dict[str, Tensor]:
    """A batch as PEFT's `generate` takes it."""
    longest = max(len(row.tokens) for row in rows)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for i, row in enumerate(rows):
        tokens[i, longest - len(row.tokens) :] = torch.tensor(row.tokens)
        mask[i, longest - len(row.tokens) :] = 1
    return {"input_ids": tokens, "attention_mask": mask}


def written(model: Any, rows: list[Row], new: int) -> list[list[int]]:
    """PEFT's answers to one batch."""
    given = left_padded(rows)
    options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        found: Tensor = model.generate(**given, **options)
    return [text[-new:] for text in found.tolist()]


def alone(options: argparse.Namespace) -> None:
    """Answers as one side."""
    limit_threads(options.threads)
    spec = ModelSpec(id=options.model, device="cpu")
    rows = inputs_of(examples(spec, options.context, options.rows))
    host = load_local(spec).host
    order = torch.randperm(1000, generator=torch_generator(0, "benchmark"))[:TOKENS]
    vectors = host.embed(torch.arange(1000))[order].clone()
    ordered = answer_batches([len(row.tokens) for row in rows], BATCH, host.info().lanes)

    def ours(new: int) -> list[list[int]]:
        found: dict[int, list[int]] = {}
        for indices in ordered:
            batch = collate([rows[i] for i in indices])
            answers = host.generate({Place(0): vectors}, batch, max_new=new, stop=frozenset())
            found |= zip(indices, answers, strict=True)
        return [found[i] for i in range(len(rows))]

    def counted() -> tuple[int, float]:
        """Tokens read and written, and the operations that they need."""
        texts = [with_answer(row, options.new) for row in rows]
        batches = [collate([texts[i] for i in indices]) for indices in ordered]
        found = needed(host._model, {Place(0): vectors}, batches, backward=False)
        return found.tokens, found.operations

    if options.alone == "softprior":
        whole, first = partial(ours, options.new), partial(ours, 1)
        times = {"time": partial(timed, whole), "time of a token": partial(timed, first)}
        answer({"answers": whole, "needed": counted, **times})
        return
    model = Peft(spec, {Place(0): vectors}).model

    def theirs(given: list[list[Row]]) -> list[list[int]]:
        return [found for batch in given for found in written(model, batch, options.new)]

    single = [[row] for row in rows]
    batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    alike = [[rows[i] for i in indices] for indices in ordered]
    answer(
        {
            "answers": partial(theirs, single),
            "time": partial(timed, partial(theirs, batches)),
            "time with the same rows": partial(timed, partial(theirs, alike)),
        }
    )


def main() -> None:
    """Compares the answers, then the time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generation", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct-q4_1")
    parser.add_argument("--context", type=int, default=300, help="longest example in tokens (default: 300)")
    parser.add_argument("--rows", type=int, default=2 * BATCH)
    parser.add_argument("--new", type=int, default=16, help="tokens of an answer (default: 16)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="also print results for `python -m benchmarks`")
    parser.add_argument("--alone", choices=("softprior", "peer"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        alone(options)
        return
    ours, peft = (started("benchmarks.generation", of, options.threads) for of in ("softprior", "peer"))
    answers, singly = ours.ask("answers"), peft.ask("answers")
    same = sum(one == other for one, other in zip(answers, singly, strict=True))
    print(f"{same} of {len(answers)} answers are those of PEFT row by row", flush=True)
    if same < 0.9 * len(answers):  # rounding decides between tokens that are nearly as likely
        sys.exit("not the same answers; nothing is measured")
    peft.ask("time")
    turns = ((peft, "time"), (peft, "time with the same rows"), (ours, "time"), (ours, "time of a token"))
    rounds = [[Took(*side.ask(what)) for side, what in turns] for _ in range(options.rounds)]
    tokens, operations = ours.ask("needed")
    ours.end()
    peft.end()
    ratios = [peer.cpu / own.cpu for peer, _, own, _ in rounds]
    alike_ratios = [peer.cpu / own.cpu for _, peer, own, _ in rounds]
    prefill = [first.cpu / own.cpu for *_, own, first in rounds]
    peer, other, own, first = map(medians, zip(*rounds, strict=True))
    print(
        f"PEFT {peer.cpu:.2f} s CPU, with softprior's rows at a time {other.cpu:.2f}, softprior "
        f"{own.cpu:.2f} s, ratios {median(ratios):.2f} and {median(alike_ratios):.2f}; {prefill=}",
        flush=True,
    )
    if options.json:
        shape = f"{len(answers)} answers of {options.new} tokens"
        row = f"{shape}: PEFT's time over ours"
        clock = [peer.seconds / own.seconds for peer, _, own, _ in rounds]
        for name, found, unit, mine, theirs, goal in (
            (row, ratios, "s CPU", own.cpu, peer.cpu, 2.0),
            (f"{row}, PEFT with the same rows at a time", alike_ratios, "s CPU", own.cpu, other.cpu, None),
            (f"{row}, by the clock", clock, "s", own.seconds, peer.seconds, None),
        ):
            tell(
                of_rounds(
                    name,
                    found,
                    f"times ({unit})",
                    own,
                    goal=goal,
                    ours=mine,
                    peer=theirs,
                    tokens=tokens,
                    operations=operations,
                )
            )
        row = f"{shape}: the pass over the input over all of it"
        tell(of_rounds(row, prefill, "times (s CPU)", first, ours=first.cpu))


if __name__ == "__main__":
    main()
