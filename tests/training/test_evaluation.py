"""The rows per test example that a trial leaves, against rows measured one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from softprior.inputs.specs import EvaluationSpec
from softprior.methods import METHODS
from softprior.models import lanes
from softprior.prompt import Batch, Prompt, collate
from softprior.results.examples import ExampleRow, load_examples, rows_of
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.records import Record
from softprior.tasks import TASKS
from softprior.tasks.prepare import prepare
from softprior.training.evaluation import Evaluator
from tests.builders import SUMS, run, tiny, trial

UNEVEN: dict[str, Any] = {"modules": ["two_digit_addition", "mul", "div"], "train_examples": 40}
"""Sums of unlike lengths, whose answers have from 2 to about 10 label tokens."""

CLOSE = 1e-5
"""Relative, for float32: rows alone have other sizes of matrix products than rows in a batch."""


def examples(record: Record, root: Path) -> list[ExampleRow]:
    """The rows of a trial's own task."""
    assert record.examples is not None
    table = load_examples(StudyFolder(root).examples(record.id), record.id, record.examples)
    return rows_of(table)[record.spec.task.canonical()]


class Trained(NamedTuple):
    """A trial that has ended: its record, its folder and its rows."""

    record: Record
    root: Path
    rows: list[ExampleRow]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """With two more answers than losses."""
    root = tmp_path_factory.mktemp("trained")
    spec = trial(task=TASKS["arithmetic"].model_validate(SUMS | UNEVEN))
    evaluation = spec.evaluation.model_copy(update={"generate": 12})
    record = run(spec.model_copy(update={"evaluation": evaluation}), root)
    return Trained(record, root, examples(record, root))


def test_two_batches_are_answered_at_a_time_where_lanes_divide_them(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, task = tiny(), TASKS["arithmetic"].model_validate(SUMS | UNEVEN)
    split = prepare(task, loaded.tokenizer, loaded.fingerprint).test
    evaluator = Evaluator(loaded.host, loaded.tokenizer, task, EvaluationSpec(generate=20, batch=8), [])
    alone = evaluator._answers(None, split)
    asked: list[int] = []
    generate = loaded.host.generate

    def noted(prompt: Prompt | None, batch: Batch, **how: Any) -> list[list[int]]:
        asked.append(len(batch))
        return generate(prompt, batch, **how)

    monkeypatch.setattr(loaded.host, "generate", noted)
    torch.set_num_threads(2)
    assert evaluator._answers(None, split) == alone
    assert asked == [16, 4]
    monkeypatch.setattr(lanes, "PAIR", 1000)
    assert evaluator._answers(None, split) == alone
    assert asked[2:] == [8, 8, 4], "texts are too short for lanes"


def test_each_row_is_that_of_the_example_alone(trained: Trained) -> None:
    """Also though batches go by length, so that the rows come out in another order."""
    loaded, spec = tiny(), trained.record.spec
    task = TASKS.component(spec.task)
    split = prepare(task, loaded.tokenizer, loaded.fingerprint).test
    posterior = load_posterior(StudyFolder(trained.root).posterior(spec.id))
    assert len({len(split.row(i).tokens) for i in range(10)}) > 3
    assert len(trained.rows) == trained.record.examples == 12
    for i, row in enumerate(trained.rows):
        example, control = split.row(i), split.control_row(i)
        assert control is not None
        assert row.example == example.id
        assert row.group in UNEVEN["modules"]
        assert example.id.startswith(row.group)
        assert row.answer is not None
        assert row.metrics == task.score(row.answer, split.answers(i))
        if i >= 10:
            assert row[2:8] == (None,) * 6
            continue
        alone = loaded.host.loss(posterior.final, collate([example]))
        assert row.nll == pytest.approx(float(alone.nll), rel=CLOSE)
        counts = (int(alone.tokens), int(alone.correct), int(alone.scored))
        assert (row.tokens, row.correct, row.scored) == counts
        swapped = loaded.host.loss(posterior.final, collate([control]))
        assert row.shuffled_nll == pytest.approx(float(swapped.nll), rel=CLOSE)
        start = loaded.host.loss(posterior.initial, collate([example]))
        assert row.untrained_nll == pytest.approx(float(start.nll), rel=CLOSE)


def test_the_records_numbers_are_the_means_of_the_rows(trained: Trained) -> None:
    """Of equal numbers in another order of addition, so to float64's rounding."""
    record, rows, test = trained.record, trained.rows, trained.record.test
    assert test is not None
    assert record.untrained is not None
    measured = [row for row in rows if row.nll is not None]
    assert (len(measured), len(rows)) == (test.examples, test.generated)
    tokens = sum(row.tokens or 0 for row in rows)
    assert tokens == test.tokens
    for mean, column in (
        (test.loss, "nll"),
        (test.shuffled_loss, "shuffled_nll"),
        (record.untrained.loss, "untrained_nll"),
    ):
        assert sum(getattr(row, column) for row in measured) / tokens == pytest.approx(mean, rel=1e-14)
    right, of = (sum(getattr(row, name) for row in measured) for name in ("correct", "scored"))
    assert right / of == test.accuracy
    assert sum(row.metrics["exact_match"] for row in rows) / len(rows) == test.metrics["exact_match"]
    told = [(found.example, found.answer) for found in record.predictions]
    assert told == [(row.example, row.answer) for row in rows]


@pytest.mark.parametrize("method", ["none", "instruction"])
def test_baselines_leave_rows_too(tmp_path: Path, method: str) -> None:
    record = run(trial(method=METHODS[method]()), tmp_path)
    rows = examples(record, tmp_path)
    assert record.test is not None
    assert sum(row.nll or 0 for row in rows) / record.test.tokens == pytest.approx(record.test.loss)
    assert all(row.untrained_nll is None and row.shuffled_nll is not None for row in rows)


def test_running_text_has_no_answers_no_control_and_its_document_as_group(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for i in range(9):
        (texts / f"{i}.txt").write_text(f"Text {i} says that one may count to {i}, and then go on. " * 4)
    task = TASKS["language"](data=str(texts), length=24, train_examples=8)
    record = run(trial(method=METHODS["none"](), task=task), tmp_path)
    rows = examples(record, tmp_path)
    assert {row.tokens for row in rows} == {20, 23}
    assert {row.group for row in rows} < {f"{i}.txt" for i in range(9)}
    assert all((row.answer, row.shuffled_nll, row.metrics) == (None, None, {}) for row in rows)
