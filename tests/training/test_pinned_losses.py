"""The losses of short trials on the shipped model, one per path through training, are these numbers.

Whoever changes them changes every number that a user compares with an earlier one. They are compared to one
part in 10,000 (`CLOSE`), and not to the last bit: another kind of processor sums in another order, which
changes the first loss by up to 4e-6 of it, and training amplifies that (docs/reproducibility.md). A change of
the code that rounds gradients otherwise passes too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from softprior.inputs.entries import Entry
from softprior.inputs.specs import EvaluationSpec
from softprior.methods import METHODS
from softprior.regularisers.towards_prior import TowardsPrior
from softprior.tasks import TASKS
from tests.builders import run, trial

SCIENCE: dict[str, Any] = {
    "data": str(Path(__file__).parents[1] / "data" / "science.jsonl"),
    "input": "Question: {question.stem}\nAnswer:",
    "choices": ["options"],
    "answer": "answerKey",
    "answer_is": "letter",
    "id": "id",
}
"""Rows in the manner of ARC."""

CLOSE = 1e-4
"""Relative difference that a few steps may make of rounding on another processor."""


def test_the_losses_of_a_whole_trial_are_these(tmp_path: Path) -> None:
    record = run(trial(), tmp_path)
    assert [point.loss for point in record.steps] == pytest.approx(
        [
            7.543595838546753,
            6.261186742782593,
            3.3098063707351684,
            3.3438444435596466,
            1.0164619863033295,
            1.3402330219745635,
        ],
        rel=CLOSE,
    )
    assert record.test is not None
    assert record.test.loss == pytest.approx(0.4836198651128345, rel=CLOSE)


@pytest.mark.parametrize(
    ("parts", "steps", "test"),
    [
        pytest.param(
            {"method": METHODS["soft"](tokens=3)},
            [7.63390474319458, 7.0037096500396725, 4.49473774433136],
            2.365946925204733,
            id="soft",
        ),
        pytest.param(
            {"method": METHODS["deep"](tokens=3, last=2)},
            [7.784709405899048, 4.391060733795166, 3.250857186317444],
            1.8116645761158154,
            id="deep",
        ),
        pytest.param(
            {"method": METHODS["prefix"](tokens=3)},
            [7.887355375289917, 7.238605880737305, 6.578547620773316],
            4.1178576427957285,
            id="prefix",
        ),
        pytest.param(
            {"regularisers": [TowardsPrior(weight=0.1)]},
            [7.543595838546753, 6.26154670715332, 3.512881851196289],
            1.40480340304582,
            id="towards_prior",
        ),
        pytest.param(
            {"task": SCIENCE},
            [6.78713592323097, 6.974409929911295, 5.5634869166782925],
            6.791177749633789,
            id="choices",
        ),
    ],
)
def test_the_losses_of_three_steps_are_these(
    parts: dict[str, Any], steps: list[float], test: float, tmp_path: Path
) -> None:
    if "task" in parts:
        entry = Entry(name="choices", params=parts["task"])
        parts = {"task": TASKS.component(entry, "study.yaml", "tasks[0]")}
    short = EvaluationSpec(examples=5, batch=5)
    record = run(trial(**parts, steps=3).model_copy(update={"evaluation": short}), tmp_path)
    assert [point.loss for point in record.steps] == pytest.approx(steps, rel=CLOSE)
    assert record.test is not None
    assert record.test.loss == pytest.approx(test, rel=CLOSE)
