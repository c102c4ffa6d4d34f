"""What every task of the table promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from softprior.prompt import collate
from softprior.tasks import TASKS, Language
from softprior.tasks.base import EXAMPLE_FEATURES, SPLITS, Example
from softprior.tasks.prepare import prepare
from softprior.validation import validate

KINDS = {**TASKS, "language-cloze": Language}
"""Tasks of the table, and a mode of one that keeps other promises than its default."""

every_task = pytest.mark.parametrize("name", sorted(KINDS))


@pytest.fixture
def make_task(make_task):
    def make(name):
        if name != "language-cloze":
            return make_task(name)
        parameters = make_task("language").model_dump(exclude={"max_new_tokens"})
        return Language.model_validate({**parameters, "mode": "cloze", "length": 64})

    return make


def examples(task):
    splits = task.splits()
    return {split: [Example.of(record) for record in getattr(splits, split)] for split in SPLITS}


@every_task
def test_a_task_is_a_value_that_survives_serialisation(name, make_task):
    task = make_task(name)
    assert validate(KINDS[name], json.loads(task.canonical()), "test") == task
    assert len({task, make_task(name)}) == 1


@every_task
def test_splits_share_no_example(name, make_task):
    found = examples(make_task(name))
    assert all(found.values())
    ids = [example.id for split in SPLITS for example in found[split]]
    inputs = [example.input for split in SPLITS for example in found[split]]
    assert len(set(ids)) == len(ids)
    assert len(set(inputs)) == len(inputs)


@every_task
def test_splits_have_the_declared_columns(name, make_task):
    splits = make_task(name).splits()
    for split in SPLITS:
        assert getattr(splits, split).features == EXAMPLE_FEATURES


@every_task
def test_a_control_differs_from_its_input_and_keeps_the_answer(name, make_task, tokenizer):
    task = make_task(name)
    for split, found in examples(task).items():
        inputs = {example.input for example in found}
        for example in found:
            if example.control is None:
                assert name == "language"
                continue
            assert example.control != example.input
            own, control = task.row(example, tokenizer), task.control_row(example, tokenizer)
            assert labelled(own) == labelled(control)
            context = example.control.rpartition("\nQuestion:")[0] or example.control
            assert any(text.startswith(context) for text in inputs - {example.input}), split


def labelled(row):
    return [token for token, label in zip(row.tokens, row.labels, strict=True) if label]


@every_task
def test_only_answers_are_labelled_and_their_end_is_not_scored(name, make_task, make_tokenizer):
    task = make_task(name)
    for tokenizer in (make_tokenizer(False), make_tokenizer(True)):
        example = examples(task)["train"][0]
        row = task.row(example, tokenizer)
        assert not row.labels[0]
        if not task.generates:
            assert row.labels == row.scored == [False] + [True] * (len(row.tokens) - 1)
            continue
        end = row.labels.index(True)
        assert row.labels == [False] * end + [True] * (len(row.tokens) - end)
        assert row.tokens[:end] == tokenizer(example.input)["input_ids"]
        assert row.tokens[-1] == tokenizer.eos_token_id
        assert row.scored == [*row.labels[:-1], False]
        assert tokenizer.decode(row.tokens[end:-1]) == f" {example.answers[0]}"


@every_task
def test_scores_are_between_zero_and_one(name, make_task):
    task = make_task(name)
    if not task.generates:
        assert task.score("anything", ("42",)) == {}
        return
    for example in examples(task)["test"]:
        perfect = task.score(f" {example.answers[0]}", example.answers)
        wrong = task.score("zebra crossing", example.answers)
        assert task.headline in perfect
        assert set(perfect.values()) == {1.0}
        assert set(wrong.values()) == {0.0}


@every_task
def test_prepared_twice_is_read_from_the_cache(name, make_task, tokenizer, monkeypatch):
    task = make_task(name)
    first = prepare(task, tokenizer, "tokenizer")
    monkeypatch.setattr(KINDS[name], "splits", lambda _: pytest.fail("tokenised again"))
    second = prepare(make_task(name), tokenizer, "tokenizer")
    assert second.path == first.path
    for split in SPLITS:
        one, two = getattr(first, split), getattr(second, split)
        assert [one.row(i) for i in range(len(one))] == [two.row(i) for i in range(len(two))]


@every_task
def test_prepared_rows_make_a_batch(name, make_task, tokenizer):
    task = make_task(name)
    prepared = prepare(task, tokenizer, "tokenizer")
    for split in SPLITS:
        found = getattr(prepared, split)
        rows = [found.row(i) for i in range(len(found))]
        assert 0 < len(rows) <= task.examples_of(split)
        assert [len(row.tokens) for row in rows] == found.lengths
        assert len({row.id for row in rows}) == len(rows)
        assert collate(rows).positions == sum(found.lengths)
        assert all(found.input_row(0).labels[i] is False for i in range(len(found.input_row(0).tokens)))
        assert rows[0].tokens[: len(found.input_row(0).tokens)] == found.input_row(0).tokens


@every_task
def test_the_estimate_of_positions_is_of_the_right_size(name, make_task, tokenizer):
    task = make_task(name)
    lengths = prepare(task, tokenizer, "tokenizer").train.lengths
    assert 0.3 < task.positions() / (sum(lengths) / len(lengths)) < 3


def test_another_process_sees_the_same_examples(make_task):
    script = (
        "import json, random, sys\n"
        "from softprior.tasks import TASKS\n"
        "from softprior.tasks.base import SPLITS\n"
        "random.seed(99)\n"
        "for line in sys.stdin:\n"
        "    name, parameters = line.split(' ', 1)\n"
        "    splits = TASKS[name.partition('-')[0]].model_validate_json(parameters).splits()\n"
        "    print(json.dumps([getattr(splits, split).to_list() for split in SPLITS]))\n"
    )
    # An empty cache of its own, or it would read what this process has generated.
    environment = dict(
        os.environ,
        PYTHONHASHSEED="4711",
        PYTHONPATH=str(Path(__file__).parents[2] / "platform"),
        SOFTPRIOR_CACHE=os.environ["SOFTPRIOR_CACHE"] + "-other",
    )
    tasks = {name: make_task(name) for name in KINDS}
    other = subprocess.run(
        [sys.executable, "-c", script],
        input="\n".join(f"{name} {task.canonical()}" for name, task in tasks.items()),
        env=environment,
        capture_output=True,
        text=True,
    )
    assert other.returncode == 0, other.stderr
    for line, task in zip(other.stdout.splitlines(), tasks.values(), strict=True):
        splits = task.splits()
        assert json.loads(line) == [getattr(splits, split).to_list() for split in SPLITS]
