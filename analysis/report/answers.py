"""Generated answers per example: a trial's beside those of no prompt and of the written instruction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.findings.reading import Reading
from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.results.records import Record
from softprior.tasks import TASKS
from softprior.tasks.base import Task
from softprior.tasks.prepare import prepared_here
from softprior.tasks.prepared import PreparedSplit

if TYPE_CHECKING:
    from softprior.library.model import Model

LETTERS = 4_000_000
"""Most letters of all answers together: with maps and curves a page of 500 trials stays below 15 MB."""

Score = Callable[[str, str], float | None]
"""What an answer to an example is worth by the headline metric."""

LONGEST = 300
"""Letters of a text that are shown."""

BASELINES = {"none": "no prompt", "instruction": "instruction"}


@dataclass(frozen=True)
class Known:
    """What is known of a task's test examples beside the records.

    Attributes:
        task: None where its class is not known here.
        inputs, expected: by example id; empty where the cache does not have them.
    """

    task: Task | None
    inputs: dict[str, str]
    expected: dict[str, tuple[str, ...]]


def tasks(reading: Reading, model: Model | None) -> dict[str, Any]:
    """By the task's canonical text: its name, its examples, and answers of baselines and trials."""
    found: dict[str, Any] = {}
    each = LETTERS // max(1, len(reading.ended))
    for text, records in _by_task(reading).items():
        entry = records[0].spec.task
        examples = _examples(records, each)
        known = _known(entry, examples, model)
        scores = _scorer(known)
        found[text] = {
            "name": reading.axes[records[0].id].task,
            "headline": "" if known.task is None else known.task.headline,
            "generated": max(len(record.predictions) for record in records),
            "examples": examples,
            "inputs": [known.inputs.get(example, "") for example in examples],
            "expected": [" | ".join(known.expected.get(example, ())) for example in examples],
            "others": [
                {
                    "name": BASELINES[record.spec.method.name],
                    "trial": record.id,
                    **own_answers(record, examples, scores, _losses(reading, record)),
                }
                for record in records
                if record.spec.method.name in BASELINES
            ],
            "trials": {
                record.id: own_answers(record, examples, scores, _losses(reading, record))
                for record in records
                if record.spec.method.name not in BASELINES
            },
        }
    return found


def own_answers(
    record: Record, examples: Sequence[str], scores: Score, losses: Mapping[str, float]
) -> dict[str, Any]:
    """In the order of the examples: answers, what each is worth if the right answer is known, and losses."""
    answers = {found.example: found.answer for found in record.predictions}
    return {
        "answers": [None if e not in answers else cut(answers[e]) for e in examples],
        "losses": [losses.get(example) for example in examples],
        "scores": [None if e not in answers else scores(e, answers[e]) for e in examples],
    }


def _losses(reading: Reading, record: Record) -> dict[str, float]:
    """Negative log-likelihood per label token of each example of the trial's own task, in nats."""
    own = reading.rows.get(record.id, {}).get(record.spec.task.canonical())
    if own is None:
        return {}
    losses = own.values[0] / own.weights
    return {example: float(f"{loss:.4g}") for example, loss in zip(own.examples, losses, strict=True)}


def cut(text: str) -> str:
    """A text as it is shown."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _by_task(reading: Reading) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in reading.finished:
        found.setdefault(record.spec.task.canonical(), []).append(record)
    return found


def _examples(records: Sequence[Record], letters: int) -> list[str]:
    """Ids of the first examples: as many as every trial's share of letters has room for."""
    longest = max(records, key=lambda record: len(record.predictions)).predictions
    found = []
    room = letters
    for prediction in longest:
        room -= min(len(prediction.answer), LONGEST) + 10
        if room < 0:
            break
        found.append(prediction.example)
    return found


def _known(entry: Entry, examples: Sequence[str], model: Model | None) -> Known:
    try:
        task = TASKS.component(entry)
    except UserError:
        return Known(None, {}, {})
    try:
        prepared = None if model is None else prepared_here(task, model.fingerprint)
    except UserError:
        prepared = None
    if prepared is None or model is None:
        return Known(task, {}, {})
    inputs, expected = {}, {}
    wanted = set(examples)
    for index in range(len(prepared.test)):
        example = prepared.test.row(index).id
        if example in wanted:
            expected[example] = prepared.test.answers(index)
            inputs[example] = _input(prepared.test, index, model)
    return Known(task, inputs, expected)


def _input(split: PreparedSplit, index: int, model: Model) -> str:
    """The end of what the model reads, where the question is."""
    text = model.tokenizer.decode(split.input_row(index).tokens, skip_special_tokens=True).strip()
    return text if len(text) <= LONGEST else f"…{text[-LONGEST:]}"


def _scorer(known: Known) -> Score:
    """The headline metric of one answer; None where the right answer is not known."""

    def score(example: str, answer: str) -> float | None:
        if known.task is None or example not in known.expected:
            return None
        value = known.task.score(answer, known.expected[example]).get(known.task.headline)
        return None if value is None else round(value, 3)

    return score
