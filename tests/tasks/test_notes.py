"""What is said of a task that is tested on few answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from softprior.inputs.entries import Entry
from softprior.inputs.specs import EvaluationSpec
from softprior.inputs.study_files import load_grid
from softprior.tasks import TASKS
from softprior.tasks.base import Look
from softprior.tasks.notes import FEWEST, WIDTH, data_notes, few_notes

STUDIES = Path(__file__).parents[2] / "jobs" / "studies"
PARAMS = {"data": "bigbench-disambiguation", "input": "{question}", "labels": ["a", "b"], "answer": "answer"}


ROWS = "add rows, or name a file for test (data: {train: FILE, test: FILE})"


@pytest.mark.parametrize(
    ("task", "examples", "generate", "short", "told"),
    [
        ("arithmetic", 16, 16, 0, ""),
        ("arithmetic", 32, 15, 0, "15 answers, 0.25, raise evaluation.generate"),
        ("arithmetic", 12, 8, 0, "8 answers, 0.35, raise evaluation.examples and evaluation.generate"),
        ("arithmetic", 32, 32, 254, "2 answers, 0.50, add data"),
        ("arithmetic", 8, 0, 0, ""),
        ("choices", 15, 0, 0, "15 answers, 0.25, raise evaluation.examples"),
        ("choices", 16, 8, 0, ""),
        ("choices", 32, 0, 250, f"6 answers, 0.40, {ROWS}"),
        ("choices", 5, 0, 250, f"5 answers, 0.44, raise evaluation.examples, and {ROWS}"),
        ("choices", 32, 0, 240, ""),
    ],
)
def test_an_accuracy_on_few_answers_is_told_with_the_remedy(
    task: str, examples: int, generate: int, short: int, told: str
) -> None:
    own = TASKS.component(Entry(name=task, params=PARAMS if task == "choices" else {}))
    evaluation = EvaluationSpec(examples=examples, generate=generate)
    answers, _, rest = told.partition(", ")
    width, _, remedy = rest.partition(", ")
    said = f"own: accuracy on {answers} has a 95% interval of up to ±{width}"
    said += f"; for 16 or more {remedy}"
    assert few_notes("own", own, evaluation, {"test_short": short}) == ([said] if told else [])


def test_a_few_examples_that_are_asked_for_and_a_test_file_have_their_own_remedies() -> None:
    own = TASKS.component(Entry(name="choices", params=PARAMS | {"test_examples": 4}))
    assert few_notes("own", own, EvaluationSpec(), {})[0].endswith("; for 16 or more raise test_examples")
    files = TASKS.component(
        Entry(name="choices", params=PARAMS | {"data": {"train": "a.csv", "test": "b.csv"}})
    )
    assert few_notes("own", files, EvaluationSpec(), {"test_short": 250})[0].endswith("add rows to b.csv")


@pytest.mark.parametrize(
    ("params", "examples", "short", "told"),
    [
        ({}, 32, 250, "6 test examples says little; for 16 or more add data"),
        ({"test_examples": 9}, 32, 0, "9 test examples says little; for 16 or more raise test_examples"),
        ({}, 8, 0, "8 test examples says little; for 16 or more raise evaluation.examples"),
    ],
)
def test_a_loss_of_few_examples_is_told_with_the_remedy(
    params: dict[str, int], examples: int, short: int, told: str
) -> None:
    own = TASKS.component(Entry(name="language", params=params))
    notes = few_notes("own", own, EvaluationSpec(examples=examples), {"test_short": short})
    assert notes == [f"own: its loss on {told}"]


def test_limits_that_nobody_set_are_told_in_one_line_and_can_be_left_out() -> None:
    own = TASKS.component(Entry(name="language", params={"validation_examples": 9}))
    look = Look(notes={"train_short": 1973, "validation_short": 5, "test_short": 250})
    asked = "own has 4 of the 9 validation_examples asked for"
    limits = "own has 27 train examples (limit 2,000), 6 test examples (limit 256)"
    assert data_notes("own", own, look) == [asked, limits]
    assert data_notes("own", own, look, limits=False) == [asked]


def test_the_docs_say_from_how_many_answers_there_is_no_note() -> None:
    page = " ".join((STUDIES.parents[1] / "docs" / "study-files.md").read_text(encoding="utf-8").split())
    assert f"tested on fewer than {FEWEST} answers has a note" in page
    assert f"±{WIDTH} / √n: ±{WIDTH / FEWEST**0.5:.3g} on {FEWEST}, and ±{WIDTH / 6**0.5:.1g} on 6" in page


def test_the_quickstart_has_no_note() -> None:
    study = load_grid(STUDIES / "quickstart.yaml")
    for task in study.tasks:
        assert few_notes(task.name, TASKS.component(task), study.evaluation, {}) == []
