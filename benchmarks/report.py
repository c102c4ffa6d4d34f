"""Time, memory and size of the report of a large study: python -m benchmarks.report --trials 500

Records, posteriors and rows per example of the shipped model are generated, with a thousand steps, twenty
vectors and 256 examples each: two methods, twins of the first seed, running text under each prompt, and all
probes. The report reads, judges, draws and writes all of them.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from analysis.report.page import write_report
from softprior.inputs.specs import ModelSpec, Probe, TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.methods import METHODS
from softprior.models.load import load_local
from softprior.prompt import Place
from softprior.results.background import save_background
from softprior.results.examples import ExampleRow, save_examples
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Posterior, save_posterior
from softprior.results.probed import (
    PROBE_NUMBERS,
    Attended,
    Found,
    NearestTokens,
    Probed,
    Projection,
    Removal,
)
from softprior.results.records import (
    PlaceGeometry,
    Prediction,
    Record,
    Score,
    StepPoint,
    TaskScore,
    save_record,
)
from softprior.studies.plan import Plan, plan_study
from softprior.studies.table import write_study, write_table
from softprior.training.source import vocabulary

STEPS, VECTORS, ANSWERS, EXAMPLES = 1000, 20, 128, 256
"""Steps of a trial, vectors of its prompt, its generated answers, and its test examples."""


def main() -> None:
    """Writes the study and its report, and prints a line of numbers."""
    parser = argparse.ArgumentParser(description="Time, memory and size of the report of a large study.")
    parser.add_argument("--trials", type=int, default=500, help="default: 500")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="softprior-report-") as root:
        # In a process of its own, whose memory is not the report's.
        maker = get_context("spawn").Process(target=large_study, args=(Path(root), options.trials))
        maker.start()
        maker.join()
        if maker.exitcode:
            sys.exit(f"the study could not be made (status {maker.exitcode})")
        folder = StudyFolder(Path(root) / "large")
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        start = time.monotonic()
        written = write_report(folder.root)
        size = Path(str(written.page)).stat().st_size / 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{options.trials} trials: {time.process_time() - began:.1f} s of CPU time, "
            f"{time.monotonic() - start:.1f} s, peak {peak:.2f} GB ({before / 2**20:.2f} before), "
            f"page {size:.1f} MiB"
        )


def large_study(root: Path, count: int, steps: int = STEPS) -> tuple[Plan, dict[str, Record]]:
    """Writes a study of about that many generated trials to `root/large`.

    Four priors, two methods, three rates and seeds, with the twins of the first seed.
    """
    file, text = root / "large.yaml", root / "text.txt"
    text.write_text(
        "\n\n".join(f"Text {i} says that one may count to {i}." for i in range(20)), encoding="utf-8"
    )
    seeds = list(range(max(1, round(count / 24) - 1)))
    file.write_text(
        "name: large\nmodel: tiny\npriors: [isotropic, fitted, vocabulary, xavier]\n"
        f"methods: [{{soft: {{tokens: {VECTORS}}}}}, {{prefix: {{tokens: {VECTORS}}}}}]\n"
        f"rates: [0.1, 0.05, 0.01]\nseeds: {seeds}\n"
        "tasks: [{arithmetic: {modules: [two_digit_addition], train_examples: 500}}]\n"
        f"training: {{steps: {steps}, batch: 8, curve: 10}}\n"
        f"evaluation: {{twin: true, probes: [{', '.join(PROBE_NUMBERS)}], "
        f"also: [{{language: {{data: {text}, length: 24}}}}]}}\n",
        encoding="utf-8",
    )
    plan = plan_study(load_grid(file))
    folder = StudyFolder(root / "large")
    loaded = load_local(ModelSpec(id="tiny", device="cpu"))
    save_background(folder, loaded.fingerprint, vocabulary(loaded.host, loaded.tokenizer))
    draws, shape = np.random.default_rng(0), plan.model.shape
    assert shape is not None
    records = {}
    for spec in plan.trials:
        places = METHODS.component(spec.method).places(shape.blocks, shape.stack)
        widths = {place: shape.width(place) or 0 for place in places}
        records[spec.id] = _record(spec, draws, steps, places)
        save_record(folder.record(spec.id), records[spec.id])
        tasks = (spec.task, *spec.evaluation.also)
        rows = {task.canonical(): _rows(records[spec.id], draws) for task in tasks}
        save_examples(folder.examples(spec.id), spec.id, rows)
        if spec.training is not None:
            save_posterior(folder.posterior(spec.id), _posterior(draws, widths))
    write_study(folder, plan.spec, plan.trials)
    write_table(folder, plan.trials, plan.components, records)
    return plan, records


def _record(spec: TrialSpec, draws: np.random.Generator, count: int, places: Iterable[Place]) -> Record:
    losses = 3 * np.exp(-np.arange(count + 1) / 300) + 0.1 * draws.random(count + 1)
    trained = spec.training is not None
    score = Score(step=count, loss=losses[-1], accuracy=0.8, shuffled_loss=4.0, examples=EXAMPLES, tokens=900)
    answers = [
        Prediction(example=f"two_digit_addition-{i}", answer=str(draws.integers(200))) for i in range(ANSWERS)
    ]
    curve = [
        score.model_copy(update={"step": i, "loss": losses[i]})
        for i in range(0, count + 1, max(1, count // 10))
    ]
    geometry = PlaceGeometry(
        moved=1.0,
        reach=2.0,
        moved_over_reach=0.5,
        initial_norm=1.0,
        final_norm=1.4,
        cosine=0.1,
        participation=15.0,
    )
    steps = [
        StepPoint(step=i, loss=losses[i], labels=30, rate=0.1, gradient=1.0, moved=i / count)
        for i in range(1, count + 1)
    ]
    return Record(
        id=spec.id,
        label="",
        spec=spec,
        status="finished",
        steps=tuple(steps) if trained else (),
        validation=tuple(curve),
        test=score.model_copy(update={"generated": ANSWERS, "metrics": {"exact_match": 0.5}}),
        geometry={place.name: geometry for place in places} if trained else {},
        predictions=tuple(answers),
        also=tuple(
            TaskScore(task=task, fingerprint="text", score=score, sources="generated")
            for task in spec.evaluation.also
        ),
        probes=tuple(_probed(probe, spec, draws) for probe in spec.evaluation.probes) if trained else (),
        examples=EXAMPLES * (1 + len(spec.evaluation.also)),
        environment={"seconds": 100.0, "machine": "generated", "threads": 1},
    )


def _probed(probe: Probe, spec: TrialSpec, draws: np.random.Generator) -> Probed:
    """Numbers between 0 and 1; only attention looks at keys and values."""
    if spec.method.name == "prefix" and probe != "attention":
        return Probed(
            probe=probe, skipped="keys and values are no vectors of the vocabulary", sources="generated"
        )
    numbers = dict(zip(PROBE_NUMBERS[probe], draws.random(len(PROBE_NUMBERS[probe])).tolist(), strict=True))
    tokens, blocks = tuple(range(VECTORS)), ((0.2, 0.1, 0.3),) * 4
    found: Found
    if probe == "removal":
        found = Removal(removed=VECTORS // 4, random_draws=(numbers["random"],), **numbers)
    elif probe == "projection":
        found = Projection(tokens=tokens, **numbers)
    elif probe == "nearest":
        found = NearestTokens(tokens_l2=tokens, tokens_cosine=tokens, tokens_dot=tokens, **numbers)
    else:
        found = Attended(blocks=blocks, untrained_blocks=blocks, **numbers)
    return Probed(probe=probe, found=found, examples=64, sources="generated")


def _rows(record: Record, draws: np.random.Generator) -> list[ExampleRow]:
    answers = {found.example: found.answer for found in record.predictions}
    losses = 3 + draws.normal(size=EXAMPLES)
    names = [f"two_digit_addition-{i}" for i in range(EXAMPLES)]
    return [
        ExampleRow(name, "two_digit_addition", 3, loss, 2, 3, loss + 1, loss + 2, answers.get(name), {})
        for name, loss in zip(names, losses.tolist(), strict=True)
    ]


def _posterior(draws: np.random.Generator, widths: Mapping[Place, int]) -> Posterior:
    def vectors() -> dict[Place, torch.Tensor]:
        return {
            place: torch.from_numpy(draws.normal(size=(VECTORS, width), scale=0.1)).float()
            for place, width in widths.items()
        }

    return Posterior({}, vectors(), vectors(), {step: vectors() for step in (1, 6, 32, 178)})


if __name__ == "__main__":
    main()
