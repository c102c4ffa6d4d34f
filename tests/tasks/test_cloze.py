"""Cloze: examples, rows, scores, and how trials write the task."""

import hashlib
import json

import pytest

from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.inputs.specs import EvaluationSpec, Rate, TrainingSpec, TrialSpec
from softprior.tasks import TASKS, Cloze, Language
from softprior.tasks.base import SPLITS, Example
from softprior.tasks.prepare import prepare


def written(path, documents):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")
    return str(path)


def examples(task):
    splits = task.splits()
    return {split: [Example.of(record) for record in getattr(splits, split)] for split in SPLITS}


def test_only_the_word_and_the_end_are_labels(documents, make_tokenizer):
    task = Cloze(data=str(documents), length=64)
    example = examples(task)["train"][0]
    for tokenizer in (make_tokenizer(False), make_tokenizer(True)):
        row = task.row(example, tokenizer)
        labelled = [token for token, label in zip(row.tokens, row.labels, strict=True) if label]
        scored = [token for token, score in zip(row.tokens, row.scored, strict=True) if score]
        assert labelled == [*scored, tokenizer.eos_token_id]
        assert tokenizer.decode(scored) == f" {example.answers[0]}"
        assert tokenizer.decode(row.tokens[: row.labels.index(True)]).endswith("\nAnswer:")
        assert task.rows(example, tokenizer) == [row]


def test_scores_are_those_of_squad():
    task = Cloze()
    assert set(task.score("the Harbour.", ("harbour",)).values()) == {1.0}
    half = task.score("harbour of Genoa", ("harbour",))
    assert half == {"exact_match": 0.0, "precision": 1 / 3, "recall": 1.0, "f1": 0.5}


def test_a_control_has_another_sentence_of_the_split_and_the_same_answer(documents, tokenizer):
    task = Cloze(data=str(documents), length=64)
    for found in examples(task).values():
        by_input = {example.input: example for example in found}
        for example in found:
            assert example.control != example.input
            assert example.control in by_input
        assert len({example.control for example in found}) == len(found)
    prepared = prepare(task, tokenizer, "t")
    row, control = prepared.test.row(0), prepared.test.control_row(0)
    start, control_start = row.labels.index(True), control.labels.index(True)
    assert row.tokens[start:] == control.tokens[control_start:]
    assert row.tokens[:start] != control.tokens[:control_start]


def test_documents_are_divided_as_for_chunks(documents):
    chunks, blanks = Language(data=str(documents)).splits(), Cloze(data=str(documents)).splits()
    for split in SPLITS:
        assert set(getattr(blanks, split)["group"]) == set(getattr(chunks, split)["group"])


def test_every_document_gives_a_sentence_before_any_gives_two(documents):
    for split, found in examples(Cloze(data=str(documents))).items():
        names = [example.id.rpartition("-")[0] for example in found]
        number = len(set(names))
        assert number > 1, split
        assert len(set(names[:number])) == number
        assert len({example.id for example in found}) == len(found)


def test_few_sentences_are_not_all_openings(documents):
    found = examples(Cloze(data=str(documents)))["train"]
    firsts = found[: len({example.group for example in found})]
    assert len({example.id.rpartition("-")[2] for example in firsts}) > 2


def test_ids_stay_when_documents_are_added(tmp_path):
    texts = [f"Document {i} has a sentence. It has a second one, number {i}." for i in range(30)]
    few = examples(Cloze(data=written(tmp_path / "few.jsonl", texts[:20])))
    many = examples(Cloze(data=written(tmp_path / "many.jsonl", texts)))
    before = {example.id: (example.input, example.answers) for found in few.values() for example in found}
    after = {example.id: (example.input, example.answers) for found in many.values() for example in found}
    assert len(before) == 40
    assert before.items() <= after.items()


def test_a_sentence_of_two_splits_is_tested_and_not_trained_on(tmp_path):
    shared = "All rights are reserved by the publisher of this page."
    texts = [f"Page {i} says something about subject {i}. {shared}" for i in range(20)]
    task = Cloze(data=written(tmp_path / "pages.jsonl", texts))
    found = examples(task)
    holders = {
        s: sum("rights" in example.input or "rights" in example.answers for example in found[s])
        for s in SPLITS
    }
    assert holders == {"train": 0, "validation": 0, "test": 1}
    assert task.splits().notes == {"repeated_sentences": 19}


def test_long_sentences_are_dropped_and_counted_never_cut(tmp_path, tokenizer):
    long = "The {} sentence goes on " + "and on " * 60 + "to the end."
    texts = [f"A short sentence about number {i}. {long.format(i)}" for i in range(20)]
    task = Cloze(data=written(tmp_path / "mixed.jsonl", texts), length=40)
    prepared = prepare(task, tokenizer, "t")
    fitting = [
        example for found in examples(task).values() for example in found if "goes on" not in example.input
    ]
    rows = [getattr(prepared, s).row(i) for s in SPLITS for i in range(len(getattr(prepared, s)))]
    assert prepared.dropped + len(rows) == 40
    assert prepared.dropped >= 20
    assert {row.id for row in rows} <= {example.id for example in fitting}
    assert all(len(row.tokens) <= 40 and row.tokens[-1] == tokenizer.eos_token_id for row in rows)


def test_documents_without_a_sentence_are_counted(tmp_path, tokenizer):
    whole = [f"Document number {i} has one whole sentence." for i in range(60)]
    task = Cloze(data=written(tmp_path / "some.jsonl", [*whole, "A heading", "Too short.", "1 2 3"]))
    assert task.splits().notes == {"documents_without_cloze": 3}
    assert prepare(task, tokenizer, "t").notes["documents_without_cloze"] == 3


def test_malformed_lines_are_set_aside(tmp_path, tokenizer):
    path = tmp_path / "mine.jsonl"
    written(path, [f"Document number {i} has one whole sentence." for i in range(40)])
    path.write_text(path.read_text() + '{"text": \n{"body": "x"}\n')
    assert prepare(Cloze(data=str(path)), tokenizer, "t").quarantined == 2


def test_no_sentence_at_all(tmp_path, tokenizer):
    task = Cloze(data=written(tmp_path / "none.jsonl", ["Heading", "Title", "1 2 3"]))
    with pytest.raises(UserError, match="every split needs an example, and none of the 0 for train fits"):
        prepare(task, tokenizer, "t")


# How trials write the task


def trial(entry: object) -> TrialSpec:
    task = TASKS.component(Entry.model_validate(entry), "study.yaml", "tasks[0]")
    return TrialSpec(
        model="tiny",
        model_fingerprint="m",
        paths=TASKS.paths(task, "task"),
        dtype="float32",
        method=Entry(name="soft", params={"tokens": 4}),
        prior=Entry(name="isotropic", params={"scale": 0.02}),
        task=TASKS.entry(task),
        data_fingerprint=task.fingerprint(),
        rate=Rate(value=0.05),
        seed=0,
        training=TrainingSpec(steps=6, batch=8),
        evaluation=EvaluationSpec(),
    )


WIKIPEDIA = "63f815ee7d0b7fdf47c54d83a16e0545bf7cba7d79a8e6c47e111eb68ae17302"

COUNTS = '"test_examples":256,"train_examples":2000,"validation_examples":256'


@pytest.mark.parametrize(
    ("entries", "known", "written"),
    [
        (
            ["language", {"language": {"mode": "continue"}}],
            "b322a869054425dd",
            f'"length":128,"max_new_tokens":32,{COUNTS}',
        ),
        ([{"language": {"length": 64}}], "80959caf85382e1b", f'"length":64,"max_new_tokens":32,{COUNTS}'),
        (
            ["cloze", {"cloze": {"length": 128}}, {"language": {"mode": "cloze"}}],
            "2196f3335df63e9a",
            f'"length":128,"max_new_tokens":12,"mode":"cloze",{COUNTS}',
        ),
        (
            [
                {"cloze": {"length": 64, "max_new_tokens": 5}},
                {"language": {"mode": "cloze", "length": 64, "max_new_tokens": 5}},
            ],
            "c8dc81ffaabacc76",
            f'"length":64,"max_new_tokens":5,"mode":"cloze",{COUNTS}',
        ),
    ],
)
def test_trials_have_the_ids_from_when_cloze_was_a_mode_of_language(entries, known, written):
    """The ids and texts are those that softprior gave when one class was both."""
    for found in map(trial, entries):
        assert found.id == known
        assert found.data_fingerprint == WIKIPEDIA
        text = f'{{"name":"language","params":{{"data":"wikipedia-106",{written}}}}}'
        assert found.task.canonical() == text
        read = Entry.model_validate_json(text)
        assert TASKS.entry(TASKS.component(read)).canonical() == text
        assert TASKS.named(read) == ("cloze" if '"mode":"cloze"' in written else "language")


@pytest.mark.parametrize(
    ("kind", "number", "known"),
    [(Language, 12, "f57926daaa245515"), (Cloze, 24, "afbcce28f62104bd")],
)
def test_examples_are_those_from_when_cloze_was_a_mode_of_language(kind, number, known, tmp_path):
    texts = [f"Document {i} has a sentence. It has a second one, number {i}." for i in range(12)]
    task = kind(data=written(tmp_path / "mine.jsonl", texts))
    assert task.fingerprint() == "bb899d8c61b274f7"
    rows = [
        {field: value for field, value in example._asdict().items() if field not in ("group", "choices")}
        for found in examples(task).values()
        for example in found
    ]
    assert len(rows) == number
    assert hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16] == known


def test_what_is_wrong_is_said_under_the_name_that_the_file_has():
    with pytest.raises(UserError, match=r"study.yaml: tasks\[0\].language.length = 3: must be at least 16"):
        trial({"language": {"mode": "cloze", "length": 3}})
    with pytest.raises(UserError, match=r"unknown key 'tasks\[0\].cloze.mode'"):
        trial({"cloze": {"mode": "cloze"}})


def test_sizes():
    assert (Cloze().generates, Cloze().headline, Cloze().max_new_tokens) == (True, "exact_match", 12)
    assert Cloze(length=128).positions() == 35
    assert Cloze(length=20).positions() <= 20
