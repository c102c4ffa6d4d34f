"""A training step of every method against one of `soft`: python -m benchmarks.method_step

Same model, same batch, as many vectors at each place; median ratio of wall time over interleaved
rounds. A ratio of 1 or less means that a method costs no more than prompt-tuning.
"""

from __future__ import annotations

import argparse
from functools import partial
from statistics import median

import torch

from benchmarks.needed import needed
from benchmarks.result import of_rounds, tell
from benchmarks.sides import BATCH, TOKENS, examples
from benchmarks.watched import Took, medians, timed
from softprior.inputs.specs import ModelSpec
from softprior.methods import METHODS
from softprior.models.load import load_local
from softprior.prompt import collate
from softprior.seeding import torch_generator
from softprior.training.threads import limit_threads


def main() -> None:
    """Prints one line per method."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.method_step", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct-q4_1")
    parser.add_argument("--context", type=int, default=300, help="longest example in tokens (default: 300)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="also print results for `python -m benchmarks`")
    options = parser.parse_args()
    limit_threads(options.threads)
    model = ModelSpec(id=options.model, device="cpu")
    host = load_local(model).host
    info = host.info()
    batch = collate(examples(model, options.context, BATCH))
    prompts = {}
    for name in ("soft", "deep", "prefix"):
        places = METHODS[name].model_validate({"tokens": TOKENS}).places(info.blocks, info.stack)
        prompts[name] = {
            place: 0.1 * torch.randn(TOKENS, host.width(place), generator=torch_generator(0, place.name))
            for place in places
        }
    times: dict[str, list[Took]] = {name: [] for name in prompts}
    for round_ in range(options.rounds + 1):
        for name, prompt in prompts.items():
            took = timed(partial(host.loss, prompt, batch, grad=True))
            if round_:  # the first warms up
                times[name].append(took)
    for name, taken in times.items():
        ratios = [own.seconds / soft.seconds for own, soft in zip(taken, times["soft"], strict=True)]
        own = medians(taken)
        print(f"{name}: {own.seconds:.2f} s per step, {median(ratios):.2f} of soft")
        if options.json and name != "soft":
            work = needed(host._model, prompts[name], [batch])
            tell(
                of_rounds(
                    f"training step, `{name}` over `soft`",
                    ratios,
                    "times (s)",
                    own,
                    ours=own.seconds,
                    peer=medians(times["soft"]).seconds,
                    tokens=work.tokens,
                    operations=work.operations,
                )
            )


if __name__ == "__main__":
    main()
