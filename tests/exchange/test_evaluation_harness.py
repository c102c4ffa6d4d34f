"""An export in lm-evaluation-harness: its answers, choices and accuracy are our own."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from softprior.exchange import export_adapter
from softprior.inputs.specs import EvaluationSpec
from softprior.methods import METHODS
from softprior.priors import PRIORS
from softprior.results.examples import load_examples, rows_of
from softprior.results.folder import StudyFolder
from softprior.tasks import TASKS
from softprior.tasks.base import Example, Task
from tests.builders import run, trial
from tests.exchange.test_exchange import case

harness: Any = pytest.importorskip(
    "lm_eval", reason="lm-evaluation-harness is not installed: pip install -e '.[evaluation]'"
)
harness_tasks: Any = importlib.import_module("lm_eval.tasks")

NEW = 6
COUNT = 10
"""Test examples."""


def tasks(root: Path) -> dict[str, Task]:
    """Sums, to be written and to be chosen."""
    rows = [
        {
            "question": f"What is {a} + {b}?",
            "said": str(a + b + (b % 2)),  # half of them wrong, or every answer would be right
            "all": [str(a + b + off) for off in (1, 0, -10)],
        }
        for a in range(10, 40)
        for b in range(10, 40, 3)
    ]
    path = root / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shared = {"data": str(path), "input": "{question}\nAnswer:", "answer": "said", "test_examples": COUNT}
    return {
        "pairs": TASKS["pairs"].model_validate({**shared, "max_new_tokens": NEW}),
        "choices": TASKS["choices"].model_validate({**shared, "choices": ["all"]}),
    }


FORMS: dict[str, dict[str, Any]] = {
    "pairs": {
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": NEW, "do_sample": False},
        "filter_list": [
            {"name": "stripped", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}
        ],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "doc_to_target": "{{answer}}",
    },
    "choices": {
        "output_type": "multiple_choice",
        "doc_to_choice": "{{choices}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "doc_to_target": "{{choices.index(answer)}}",
    },
}
"""How the harness has a task of each kind."""


def evaluated(name: str, task: Task, adapter: Path, root: Path) -> Any:
    """What the harness finds on the task's own test examples, as its command does with the same arguments."""
    data = root / "test.jsonl"
    examples = list(map(Example.of, task.splits().test))[:COUNT]
    rows = [
        {"id": one.id, "input": one.input, "answer": one.answers[0], "choices": one.choices}
        for one in examples
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    form = {
        "task": "own",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "{{input}}",
        "target_delimiter": " ",
        **FORMS[name],
    }
    (root / "own.yaml").write_text(json.dumps(form), encoding="utf-8")
    manager = harness_tasks.TaskManager(include_path=str(root), include_defaults=False)
    arguments = {"pretrained": str(case("tiny", root).folder), "peft": str(adapter), "dtype": "float32"}
    return harness.simple_evaluate(
        "hf",
        {**arguments, "device": "cpu"},
        tasks=["own"],
        batch_size=4,
        task_manager=manager,
        bootstrap_iters=0,
    )


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("method", ["soft", "prefix"])
def test_its_answers_and_its_accuracy_are_ours(name: str, method: str, tmp_path: Path) -> None:
    task, prior = tasks(tmp_path)[name], PRIORS["instruction"](text="Add.")
    spec = trial(METHODS[method](tokens=4), prior, task)
    whole = {"evaluation": EvaluationSpec(examples=COUNT, generate=COUNT, batch=5)}
    record = run(spec.model_copy(update=whole), tmp_path / "study")
    assert record.test is not None
    folder = StudyFolder(tmp_path / "study")
    export_adapter(folder.posterior(record.id), tmp_path / "adapter", check=False)
    found = evaluated(name, task, tmp_path / "adapter", tmp_path)
    table = load_examples(folder.examples(record.id), record.id, record.examples or 0)
    ours = {row.example: row for row in rows_of(table)[record.spec.task.canonical()]}
    theirs = {sample["doc"]["id"]: sample for sample in found["samples"]["own"]}
    assert set(theirs) == set(ours)
    for id, row in ours.items():
        given = theirs[id]["filtered_resps"]
        if name == "pairs":
            assert given[0].strip() == row.answer
        else:
            likely = [likelihood for likelihood, _ in given]
            assert theirs[id]["doc"]["choices"][likely.index(max(likely))] == row.answer
    metric = {"pairs": "exact_match", "choices": "acc"}[name]
    (accuracy,) = (value for key, value in found["results"]["own"].items() if key.startswith(f"{metric},"))
    assert accuracy == record.test.metrics[task.headline]
    assert 0 < accuracy < 1, "or it says nothing"
