"""The list of trials, and what opening one of them shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.findings.reading import Reading
from analysis.report import answers, tokens
from analysis.report.answer import context_gap
from analysis.report.maps import Plane, maps
from analysis.report.values import Cell, Table, compact, number, said_once
from analysis.tables import SHORT
from softprior.errors import UserError
from softprior.inputs.labels import Axes, counted
from softprior.library.sanity import checks
from softprior.results.means import over_places
from softprior.results.posteriors import Posterior
from softprior.results.probed import PROBE_NUMBERS, Probed
from softprior.results.records import Record
from softprior.results.sanity import Check
from softprior.tasks import TASKS
from softprior.training.probes import PASSES

COLUMNS = (
    "trial",
    "status",
    "task",
    "method",
    "prior",
    "regularisers",
    "rate",
    "seed",
    "repeat",
    "validation loss",
    "test loss",
    "answers",
    "rise if swapped",
    "moved / reach",
    "seconds",
)

FILTERS = frozenset({"status", "task", "method", "prior", "regularisers", "rate", "seed", "repeat"})
"""Columns with a menu."""

NUMBERS = frozenset(COLUMNS[6:]) - {"repeat"}

CURVE = 120
"""Most points of a curve; of more steps every k-th is drawn, and the page says so."""

FLAGS = {"finished": "good", "failed": "bad", "stopped": "open"}


def listed(reading: Reading) -> Table:
    """One row per trial that has ended, without the words that all of them share."""
    records = list(reading.ended.values())
    every = [_row(record, reading.ids[record.id], reading.axes[record.id]) for record in records]
    same, rows = said_once(COLUMNS, every, FILTERS)
    return compact(
        caption=f"All trials that have ended.{same} Losses are on the test split, in nats per label token, "
        "after the last step; answers are the headline metric of the task; 'rise if swapped' is the test "
        "loss with swapped contexts minus the test loss. A twin repeats a trial from a start moved by "
        "rounding's size, a reordered trial with another order of the data; they are in no mean. From "
        "records/TRIAL.json, as in trials.parquet.",
        columns=COLUMNS,
        rows=rows,
        numbers=NUMBERS,
    )


def _row(record: Record, short: str, axes: Axes) -> tuple[Cell, ...]:
    test, spec = record.test, record.spec
    validation = record.validation[-1].loss if record.validation else None
    ratio = over_places(record.geometry).get("moved_over_reach")
    seconds = record.environment.get("seconds")
    gap = context_gap(record)
    answered, share = headline(record)
    return (
        Cell(short, trials=(record.id,)),
        Cell(record.status, flag=FLAGS[record.status]),
        *(Cell(text) for text in (axes.task, axes.method, axes.prior or "", " + ".join(axes.regularisers))),
        Cell(axes.rate or "", None if spec.rate is None else spec.rate.value),
        Cell("" if spec.seed is None else str(spec.seed), spec.seed),
        Cell(spec.repeat or "", trials=() if spec.original is None else (spec.original,)),
        Cell(number(validation), validation),
        Cell(number(None if test is None else test.loss), None if test is None else test.loss),
        Cell(answered, share),
        Cell(number(gap), gap),
        Cell(number(ratio), ratio),
        Cell(number(seconds, 1), seconds),
    )


def headline(record: Record) -> tuple[str, float | None]:
    """The task's headline, in words and as a number; the first metric of a task that is not known here."""
    if record.test is None or not record.test.metrics:
        return "", None
    metrics = record.test.metrics
    try:
        name = TASKS.component(record.spec.task).headline
    except UserError:
        name = next(iter(metrics))
    if name not in metrics:
        return "", None
    value = metrics[name]
    return f"{SHORT.get(name, name.replace('_', ' '))} {value:.0%}", value


def details(reading: Reading) -> tuple[dict[str, Any], list[str]]:
    """What opening a trial shows, as JSON, and a sentence for each thing that is not there.

    Keys: `trials` by id (label, status, error, facts, curve, maps, tokens, task), `planes` by model
    fingerprint, `tasks` (see `answers.tasks`).
    """
    words = tokens.open_model(reading.header["spec"].get("model"), reading.header.get("model_fingerprint"))
    problems: list[str] = []
    if words.model is None:
        problems.append(f"nearest tokens and the examples' texts are left out, because {words.reason}")
    planes, checked = _planes(reading), checks(reading.ended)
    found: dict[str, Any] = {}
    vectors = {}
    for record in reading.ended.values():
        posterior = reading.study.posteriors.get(record.id)
        found[record.id] = _detail(record, reading, posterior, planes, checked.get(record.id, ()))
        if posterior is not None:
            vectors[record.id] = tokens.embedded(posterior)
    tasks = answers.tasks(reading, words.model)
    if words.model is not None:
        order = sorted(vectors, key=lambda trial: _loss(reading.ended[trial]))
        near = tokens.neighbours(words.model, {trial: vectors[trial] for trial in order})
        for trial, places in near.items():
            found[trial]["tokens"] = places
    shown = {text: plane.to_json() for text, plane in planes.items()}
    return {"trials": found, "planes": shown, "tasks": tasks}, problems


def _planes(reading: Reading) -> dict[str, Plane]:
    """The plane of the model's vocabulary by its fingerprint, where the study keeps a sample of it."""
    sample = reading.study.vocabulary
    return {} if sample is None else {str(reading.header.get("model_fingerprint")): Plane(sample)}


def _detail(
    record: Record,
    reading: Reading,
    posterior: Posterior | None,
    planes: Mapping[str, Plane],
    checked: Sequence[Check],
) -> dict[str, Any]:
    plane = planes.get(record.spec.model_fingerprint)
    return {
        "label": reading.labels[record.id],
        "status": record.status,
        "error": record.error,
        "files": [f"records/{record.id}.json"]
        + ([f"posteriors/{record.id}.safetensors"] if posterior is not None else []),
        "facts": [*_facts(record), *_checked(checked)],
        "curve": _curve(record),
        "maps": [] if posterior is None else maps(posterior, plane),
        "model": record.spec.model_fingerprint,
        "task": record.spec.task.canonical(),
        "tokens": [],
    }


def _facts(record: Record) -> list[list[str]]:
    """Names and values of what is known of the whole trial."""
    found: list[list[str]] = []
    for name, score in (("untrained sample", record.untrained), ("after training", record.test)):
        if score is None:
            continue
        what = f"test loss {number(score.loss, 4)}"
        what += f" over {score.tokens:,} label tokens of {score.examples:,} examples"
        if score.accuracy is not None:
            what += f", accuracy {score.accuracy:.1%}"
        if score.shuffled_loss is not None:
            what += f", with swapped contexts {number(score.shuffled_loss, 4)}"
        for metric, value in score.metrics.items():
            what += f", {metric.replace('_', ' ')} {value:.1%}"
        found.append([name, what])
    for name, place in record.geometry.items():
        what = f"moved {number(place.moved)}"
        if place.reach is not None and place.moved_over_reach is not None:
            what += f" of a reach of {number(place.reach)} ({number(place.moved_over_reach)})"
        what += f", norm {number(place.initial_norm)} to {number(place.final_norm)}"
        if place.initial_radius is not None and place.final_radius is not None:
            what += f", radius quantile {number(place.initial_radius, 2)} to {number(place.final_radius, 2)}"
        found.append([name, what])
    return found + [[f"probe {one.probe}", _probe(one)] for one in record.probes]


def _checked(found: Sequence[Check]) -> list[list[str]]:
    """The number of each check: those that passed in one line, and the others with what is wrong."""
    passed = [f"{check.name.replace('_', ' ')} {number(check.number)}" for check in found if not check.words]
    bad = [
        [f"{check.verdict}: {check.name.replace('_', ' ')}", f"{number(check.number)}: {check.words}"]
        for check in found
        if check.words
    ]
    return [*bad, *([["checks passed", ", ".join(passed)]] if passed else [])]


def _probe(one: Probed) -> str:
    """The numbers of a probe, or why there are none."""
    if one.found is None:
        return one.skipped or one.error or ""
    numbers = {name.replace("_", " "): getattr(one.found, name) for name in PROBE_NUMBERS[one.probe]}
    told = ", ".join(f"{name} {number(value)}" for name, value in numbers.items())
    return f"{told} (over {counted(one.examples, 'test example')})" if PASSES[one.probe] else told


def _curve(record: Record) -> dict[str, Any]:
    """Training loss by step, thinned, and all validation points."""
    every = -(-len(record.steps) // CURVE) if record.steps else 1
    steps = record.steps[::every]
    return {
        "every": every,
        "step": [point.step for point in steps],
        "loss": [float(f"{point.loss:.4g}") for point in steps],
        "moved": [float(f"{point.moved:.4g}") for point in steps],
        "validation_step": [score.step for score in record.validation],
        "validation_loss": [float(f"{score.loss:.5g}") for score in record.validation],
    }


def _loss(record: Record) -> float:
    return float("inf") if record.test is None else record.test.loss
