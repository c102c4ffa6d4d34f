"""What activation statistics cost: python -m benchmarks.activations

Three ways over the same texts, half of them read again shuffled as the job does, taken in turns: forward
passes alone, the same passes with every statistic at every residual site, and the usual way
(`output_hidden_states=True` on padded batches, states kept in a list, numpy at the end). The first two run
in lanes as in a worker. Each way is a process of its own (`benchmarks.asked`). Prints seconds, their ratios,
and peak memory.

With --growth: peak memory of a worker at 10,000 and at 1,000,000 tokens. With --workers: two runs of the
command at once, each on one core, against one run of two workers on both files, starting up included.
With --slope TOKENS: how a worker's memory grows with what it has read, and whether the store counts what is
in the file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.asked import Asked, answer, as_script, as_worker
from benchmarks.needed import needed
from benchmarks.result import of_rounds, tell
from benchmarks.watched import Took, forget_peak, medians, resident, timed
from softprior.activations.collector import Collector, Medians, Sinks, base_sites, batch_of
from softprior.activations.folder import RunFolder
from softprior.activations.outcome import Outcome
from softprior.activations.passes import Router, TextPass, followed, passes
from softprior.activations.plan import plan_activations
from softprior.activations.run import run_activations
from softprior.activations.sequences import Sequences
from softprior.activations.spec import ActivationsSpec
from softprior.activations.state import TaskState
from softprior.activations.texts import batches
from softprior.activations.turns import divided, in_turns
from softprior.activations.worker import Worker
from softprior.assets.models import resolve_model
from softprior.inputs.specs import ModelSpec
from softprior.models.load import load_local
from softprior.models.protocol import SiteStatistic, Where
from softprior.statistics.store import stored, token_classes
from softprior.tasks.prepared import Text
from softprior.training.threads import limit_threads

WORDS = [
    "where",
    "lie",
    "the",
    "words",
    "of",
    "a",
    "text",
    "in",
    "model",
    "activations",
    "and",
    "what",
    "follows",
]

WAYS = ("forward", "statistics", "usual")
GROWTH = (10_000, 1_000_000)
"""Tokens at which peak memory is compared."""

BATCH = 4096
"""Most tokens of a pass."""

SHARD = 8192
"""Tokens of a shard where growth is measured: small enough that the fewest tokens fill one."""


def texts(count: int, vocabulary: int) -> list[Text]:
    """About `count` random tokens in texts of 20 to 250 tokens, the last three of each an answer."""
    generator, total = np.random.default_rng(0), 0
    found: list[Text] = []
    while total < count:
        length = int(generator.integers(20, 250))
        tokens = generator.integers(0, vocabulary, length).tolist()
        found.append(Text(f"{len(found)}", f"{len(found)}", "", tokens, [0] * (length - 3) + [2] * 3))
        total += length
    return found


class Nothing:
    """What takes states and keeps nothing."""

    def begin(self, at: TextPass) -> None:
        """Needs nothing of a pass."""

    def update(self, site: str, states: Tensor, where: Where) -> None:
        """Never called, as forward passes alone have no site."""


def prepared(way: str, model: ModelSpec, given: list[Text]) -> Callable[[], object]:
    """A function that runs the texts once in the given way."""
    chosen = followed(given, len(given) // 2)
    if way == "usual":
        return usual(model, given, chosen)
    host = load_local(model).host
    sites = [site for site in host.sites() if not site.startswith(("key.", "value."))]
    norms = Medians()
    first = next(batches(given, BATCH))
    host.observe(None, batch_of(first), sites, norms)

    def forward() -> None:
        in_turns(made, [Nothing() for _ in range(lanes)], observe)

    def collect() -> TaskState:
        """Reads the texts as the worker does."""
        state = TaskState("task", 1000, False, ())
        made, lanes = divided(partial(passes, given, chosen, seed=0), BATCH, host.info().lanes)
        routers = []
        for _ in range(lanes):
            sinks = Sinks(norms.values(), 10.0, base_sites(host.sites()))
            routers.append(Router(Collector(state, sites, sinks, 0), Sequences(state, sites, sinks, 0)))
        in_turns(made, routers, observe)
        return state

    def observe(texts: list[Text], statistic: SiteStatistic) -> None:
        host.observe(None, batch_of(texts), sites if way == "statistics" else [], statistic)

    made, lanes = divided(partial(passes, given, chosen, seed=0), BATCH, host.info().lanes)
    return forward if way == "forward" else collect


def usual(model: ModelSpec, given: list[Text], chosen: list[Text]) -> Callable[[], object]:
    network = AutoModelForCausalLM.from_pretrained(resolve_model(model).folder, dtype=torch.float32)

    @torch.no_grad()
    def run() -> list[np.ndarray]:
        kept: list[list[np.ndarray]] = [[] for _ in range(network.config.num_hidden_layers + 1)]
        for at in passes(given, chosen, BATCH, 0):
            made = batch_of(at.texts)
            real = torch.arange(made.tokens.shape[1])[None] < made.lengths[:, None]
            out = network.model(
                input_ids=made.tokens, attention_mask=real.long(), output_hidden_states=True
            ).hidden_states
            for site, states in zip(kept, out, strict=True):
                if at.collected:
                    site.append(states[real].numpy())
        return [np.cov(np.concatenate(site).T) for site in kept]

    return run


def counted_operations(model: ModelSpec, given: list[Text]) -> tuple[int, float]:
    """Tokens of all passes over the texts, and the operations of these passes alone."""
    network: Any = load_local(model).host._model
    read = passes(given, followed(given, len(given) // 2), BATCH, 0)
    found = needed(network, {}, (batch_of(at.texts) for at in read), backward=False, logits=False)
    return found.tokens, found.operations


def alone(way: str, model: str, tokens: int, threads: int) -> dict[str, float]:
    """Peak memory of one way in MB, and what the process held before it began."""
    limit_threads(threads)
    spec = ModelSpec(id=model)
    if way == "shards":
        run = in_shards(spec, tokens)
    else:
        run = prepared(way, spec, texts(tokens, load_local(spec).host.info().vocabulary))
    forget_peak()  # the peak of loading the model is not of interest
    before = resident("VmRSS")
    run()
    return {"before": before, "peak": resident("VmHWM")}


def in_shards(model: ModelSpec, tokens: int) -> Callable[[], object]:
    """A function that reads a file of random words as one worker of the job does."""
    folder = Path(tempfile.mkdtemp(prefix="softprior-benchmark-"))
    words(folder / "words.txt", tokens, 0)
    files = [{"name": "words", "path": str(folder / "words.txt")}]
    spec = ActivationsSpec.model_validate(
        {"name": "growth", "model": model.id, "files": files, "shard_tokens": SHARD}
    )
    plan = plan_activations(spec)
    Path(str(RunFolder(folder).parts)).mkdir()
    worker = Worker(spec.model_dump_json(), plan.identity, str(folder))

    def run() -> None:
        seen = 0
        for facts in plan.shard_facts():
            (result,) = worker({"shard": np.array([json.dumps(facts)])})["result"]
            seen += json.loads(result)["tokens"] * (facts["source"] == "words")
        print(f"{seen:,} tokens in {len(plan.shards) - 1} shards")
        shutil.rmtree(folder)

    return run


def words(path: Path, tokens: int, seed: int) -> None:
    """Writes a file of random words with about that number of tokens."""
    generator = np.random.default_rng(seed)
    lines = (" ".join(generator.choice(WORDS, 50)) for _ in range(tokens // 100))
    path.write_text("\n".join(lines) + "\n")


def side_by_side(model: str, tokens: int) -> tuple[float, float]:
    """Seconds of two runs of one worker each at once, and of one run of two workers on what both read."""
    with tempfile.TemporaryDirectory(prefix="softprior-benchmark-") as name:
        folder = Path(name)
        files = [{"name": f"words{i}", "path": str(folder / f"words{i}.txt")} for i in range(2)]
        for i, file in enumerate(files):
            words(Path(file["path"]), tokens, i)
        shared = {"model": model, "shard_tokens": 2048, "tracking": {"enabled": False}}
        runs = [("both", files, 2), ("first", files[:1], 1), ("second", files[1:], 1)]
        for run, read, workers in runs:
            spec = shared | {"name": run, "files": read, "resources": {"cpus": 1, "concurrent": workers}}
            (folder / f"{run}.yaml").write_text(yaml.safe_dump(spec))
        return ended(folder, ["first", "second"]), ended(folder, ["both"])


def ended(folder: Path, runs: list[str]) -> float:
    """Seconds until all of the runs, begun at once, have ended."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "jobs.activations", "--no-findings", "--results", str(folder)]
    processes = [
        subprocess.Popen([*command, str(folder / f"{run}.yaml")], stdout=subprocess.DEVNULL)  # noqa: S603  our own
        for run in runs
    ]
    if any(process.wait() for process in processes):
        sys.exit("a run failed")
    return time.perf_counter() - started


def slope(model: str, tokens: int) -> bool:
    """Reads a file of about `tokens` tokens as a worker of the job does; returns whether all are counted.

    Prints what the process adds to its memory per million tokens, the first fifth left out.
    """
    limit_threads(1)
    with tempfile.TemporaryDirectory(prefix="softprior-benchmark-") as name:
        folder = Path(name)
        words(folder / "words.txt", tokens, 0)
        files = [{"name": "words", "path": str(folder / "words.txt")}]
        spec = ActivationsSpec.model_validate({"name": "run", "model": model, "files": files})
        plan, run = plan_activations(spec), RunFolder(folder / "run")
        Path(str(run.parts)).mkdir(parents=True)
        worker = Worker(spec.model_dump_json(), plan.identity, str(run.root))
        read, points = 0, []
        for facts in plan.shard_facts():
            (result,) = worker({"shard": np.array([json.dumps(facts)])})["result"]
            if why := Outcome.of(result).error:
                sys.exit(why)
            partials = run.partials("words")  # none after the vocabulary's shard
            read = sum(shard["tokens"] for partial in partials for shard in partial.shards.values())
            points.append((read / 1e6, resident("VmRSS")))
            if len(points) % 16 == 0:
                print(f"{read:,} tokens: {points[-1][1]:.0f} MB", flush=True)
        x, y = np.array(points[len(points) // 5 :]).T
        print(
            f"{len(points):,} shards: {y[0]:.0f} MB after {x[0]:.2f} million tokens, {y[-1]:.0f} after "
            f"{x[-1]:.2f}, {resident('VmHWM'):.0f} at most; {np.polyfit(x, y, 1)[0]:+.2f} MB per million "
            "tokens"
        )
        run_activations(plan, run, nullcontext(), lambda _: None)  # nothing is missing: it merges
        return counted(run, model, folder / "words.txt")


def counted(run: RunFolder, model: str, file: Path) -> bool:
    """Prints what is in a file and what the store of a run counts; returns whether they agree."""
    tokenizer = load_local(ModelSpec(id=model)).tokenizer
    lines = file.read_text().splitlines()
    tokens = sum(len(ids) for ids in tokenizer(lines)["input_ids"])
    summary = json.loads(run.summary.read_text())["tasks"]["words"]
    right = (summary["texts"], summary["documents"], summary["tokens"]) == (len(lines), len(lines), tokens)
    store = Path(str(run.store))
    for site in stored(store)["words"]:
        classes = token_classes(store, "words", site)
        right = right and classes["input"] + classes["sinks"] == tokens
    print(f"{len(lines):,} documents, {tokens:,} tokens; counted at all sites: {right}")
    return right


def started_as(way: str, threads: int) -> dict[str, str]:
    """The environment of a process: that of a worker, or of a script for the usual way."""
    return as_script(threads) if way == "usual" else as_worker(threads)


def measured(way: str, model: str, tokens: int, threads: int) -> dict[str, float]:
    """`alone`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.activations", "--alone", way, "--model", model]
    command += ["--tokens", str(tokens), "--threads", str(threads)]
    options: dict[str, Any] = {"check": True, "capture_output": True, "text": True}
    out = subprocess.run(command, env=started_as(way, threads), **options).stdout  # noqa: S603  our own words
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def main() -> None:
    """Prints one line a way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activations", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct-q4_1")
    parser.add_argument("--tokens", type=int, default=12_000, help="tokens of a run (default: 12000)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each way (default: 5)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="also print results for `python -m benchmarks`")
    parser.add_argument("--growth", action="store_true", help="peak memory at 10,000 and 1,000,000 tokens")
    parser.add_argument("--workers", action="store_true", help="two workers against two runs")
    parser.add_argument("--slope", type=int, metavar="TOKENS", help="memory over this number of tokens")
    parser.add_argument("--alone", choices=(*WAYS, "shards"), help=argparse.SUPPRESS)
    parser.add_argument("--answer", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(alone(options.alone, options.model, options.tokens, options.threads)))
        return
    if options.growth:
        peaks = [measured("shards", options.model, count, options.threads)["peak"] for count in GROWTH]
        print(
            f"{options.model}: peak at {GROWTH[0]:,} tokens {peaks[0]:.0f} MB, at {GROWTH[1]:,} "
            f"{peaks[1]:.0f} MB, ratio {peaks[1] / peaks[0]:.3f}"
        )
        return
    if options.slope:
        sys.exit(not slope(options.model, options.slope))
    if options.workers:
        for turn in range(options.rounds):
            apart, together = side_by_side(options.model, options.tokens)
            print(
                f"round {turn + 1}: two runs {apart:.1f} s, one run of two workers {together:.1f} s, ratio "
                f"{apart / together:.2f}",
                flush=True,
            )
        return
    if options.answer:
        limit_threads(options.threads)
        spec = ModelSpec(id=options.model)
        given = texts(options.tokens, load_local(spec).host.info().vocabulary)
        work = partial(timed, prepared(options.answer, spec, given))
        answer({"time": work, "needed": partial(counted_operations, spec, given)})
        return
    words = ["benchmarks.activations", *sys.argv[1:], "--answer"]
    sides = {way: Asked([*words, way], started_as(way, options.threads)) for way in WAYS}
    taken: dict[str, list[Took]] = {way: [] for way in WAYS}
    for turn in range(options.rounds + 1):
        for way, side in sides.items():
            took = Took(*side.ask("time"))
            if turn:  # the first warms up
                taken[way].append(took)
    read, operations = sides["statistics"].ask("needed")
    for side in sides.values():
        side.end()
    for way in WAYS:
        ratios = [a.seconds / b.seconds for a, b in zip(taken["forward"], taken[way], strict=True)]
        own = medians(taken[way])
        memory = measured(way, options.model, options.tokens, options.threads)
        print(
            f"{way:<10} {own.seconds:6.2f} s   forward alone over it "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})   "
            f"peak {memory['peak']:.0f} MB, {memory['peak'] - memory['before']:.0f} above the model"
        )
        if options.json and way == "statistics":
            tell(
                of_rounds(
                    "activation statistics: forward passes alone over ours",
                    ratios,
                    "times (s)",
                    own._replace(memory=memory["peak"] - memory["before"]),
                    goal=0.92,
                    ours=own.seconds,
                    peer=medians(taken["usual"]).seconds,
                    limit=medians(taken["forward"]).seconds,
                    tokens=read,
                    operations=operations,
                )
            )


if __name__ == "__main__":
    main()
