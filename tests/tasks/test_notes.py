"""What is said of a task that is tested on few answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from softprior.inputs.entries import Entry
from softprior.inputs.specs import EvaluationSpec
from softprior.inputs.study_files import load_grid
from softprior.tasks import TASKS
from softprior.tasks.notes import few_notes

STUDIES = Path(__file__).parents[2] / "jobs" / "studies"
PARAMS = {"data": "bigbench-disambiguation", "input": "{question}", "labels": ["a", "b"], "answer": "answer"}


@pytest.mark.parametrize(
    ("task", "examples", "generate", "short", "told"),
    [
        ("arithmetic", 16, 16, 0, ""),
        ("arithmetic", 32, 15, 0, "15 answers, 0.25, evaluation.generate"),
        ("arithmetic", 20, 8, 0, "8 answers, 0.35, evaluation.examples, evaluation.generate"),
        ("arithmetic", 32, 32, 254, "2 answers, 0.50, test_examples"),
        ("arithmetic", 8, 0, 0, ""),
        ("language", 8, 8, 0, ""),
        ("choices", 23, 0, 0, "23 answers, 0.20, evaluation.examples"),
        ("choices", 24, 8, 0, ""),
    ],
)
def test_an_accuracy_on_few_answers_is_told_with_the_setting(
    task: str, examples: int, generate: int, short: int, told: str
) -> None:
    own = TASKS.component(Entry(name=task, params=PARAMS if task == "choices" else {}))
    evaluation = EvaluationSpec(examples=examples, generate=generate)
    answers, _, rest = told.partition(", ")
    width, _, settings = rest.partition(", ")
    said = f"own: accuracy on {answers} has a 95% interval of up to ±{width}"
    said += f"; use 24 or more for ±0.20 ({settings})"
    assert few_notes("own", own, evaluation, {"test_short": short}) == ([said] if told else [])


def test_the_quickstart_has_no_note() -> None:
    study = load_grid(STUDIES / "quickstart.yaml")
    for task in study.tasks:
        assert few_notes(task.name, TASKS.component(task), study.evaluation, {}) == []
