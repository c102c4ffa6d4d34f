"""What every task of the table promises; and the suite for that, held against tasks that break a promise."""

from __future__ import annotations

import json
import random
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from softprior.assets.cache import ensure
from softprior.prompt import Row
from softprior.tasks import TASKS
from softprior.tasks.base import SPLITS, Example, Quarantined, Split, Splits, Task, table
from softprior.testing import check_task
from softprior.testing.tasks import (
    Spoiled,
    check_cache,
    check_controls,
    check_dropped,
    check_fingerprint,
    check_other_process,
    check_positions,
    check_prepared,
    check_quarantined,
    check_repeatable,
    check_rows,
    check_scores,
    check_serialisation,
    check_splits,
    check_strictness,
    check_texts,
)

QUESTIONS = Path(__file__).parents[1] / "data" / "questions.json"

CASES = {
    "squad": {"data": "sound.json", "context_tokens": 300},
    "arithmetic": {"modules": ("two_digit_addition", "mul", "div")},
    "language": {"data": "sound.jsonl", "length": 32},
    "cloze": {"data": "sound.jsonl", "length": 64},
    "pairs": {
        "data": "rows.jsonl",
        "input": "{text}\nQuestion: {question}\nAnswer:",
        "answer": "{reply}",
        "context": "text",
        "group": "topic",
        "other_metrics": ("f1", "contains"),
    },
    "choices": {
        "data": "reviews.tsv",
        "input": "{sentence}\nOpinion:",
        "labels": ("bad", "good"),
        "answer": "label",
        "answer_is": "index",
        "context": "sentence",
    },
}
"""Parameters by task, all offline; `data` is a file below."""

OWN_DATA = {"pairs", "choices"}
"""Tasks that need data of one's own, so that there are none without parameters."""

GENERATED = {"arithmetic"}
"""Cases whose questions are drawn: groups are in every split, no row is malformed, every example fits."""

CONTEXTS = {
    "squad": lambda text: text.rpartition("\nQuestion:")[0],
    "pairs": lambda text: text.rpartition("\nQuestion:")[0],
    "choices": lambda text: text.rpartition("\nOpinion:")[0],
    "language": None,
}
"""What a control has from elsewhere, where that is not the whole input; None where there is no control."""

TIGHT = {
    "squad": {"context_tokens": 108},
    "language": {"data": "short.jsonl"},
    "cloze": {"length": 31},
    "pairs": {"length": 62},
    "choices": {"length": 30},
}
"""With these, some examples do not fit; a document does not where it is too short to learn from."""

MALFORMED = {
    "squad": {"data": "malformed.json"},
    "language": {"data": "malformed.jsonl"},
    "cloze": {"data": "malformed.jsonl"},
    "pairs": {"data": "malformed_rows.jsonl"},
    "choices": {"data": "malformed_reviews.tsv"},
}
"""With these, the data has three malformed rows besides the sound ones."""

every_case = pytest.mark.parametrize("case", CASES)


WORDS = ("market", "old mill", "school", "bridge", "harbour", "library", "museum", "chapel", "brewery")


def written(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture
def make(tmp_path, documents):
    """The task of a case, with other parameters where they are given."""
    questions = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    (tmp_path / "sound.json").write_text(json.dumps(questions), encoding="utf-8")
    rows = questions["data"][0]["paragraphs"][0]["qas"]
    rows += [{**rows[0], "id": "none", "answers": []}, {**rows[0], "id": "blank", "question": " "}, "a text"]
    (tmp_path / "malformed.json").write_text(json.dumps(questions), encoding="utf-8")

    lines = documents.read_text(encoding="utf-8").splitlines()
    written(tmp_path / "sound.jsonl", lines)
    written(tmp_path / "malformed.jsonl", [*lines[:7], '{"text": ', '{"body": "x"}', *lines[7:], '["text"]'])
    written(tmp_path / "short.jsonl", [*lines, *(json.dumps({"text": f"Page {i}."}) for i in range(40))])

    pairs = [
        {
            "text": f"In {1800 + i} the {WORDS[i % 9]} of the town {'and its people ' * (i // 8 % 4)}moved.",
            "question": f"What moved in {1800 + i}?",
            "reply": f"the {WORDS[i % 9]}",
            "topic": f"town {i % 8}",
        }
        for i in range(40)
    ]
    rows = [json.dumps(row) for row in pairs]
    written(tmp_path / "rows.jsonl", rows)
    lost = [{**pairs[0], "text": "Nobody moved.", "reply": " "}, pairs[3], {"text": "a", "question": "b"}]
    written(tmp_path / "malformed_rows.jsonl", [*rows, *map(json.dumps, lost)])

    reviews = QUESTIONS.with_name("reviews.tsv").read_text(encoding="utf-8")
    (tmp_path / "reviews.tsv").write_text(reviews, encoding="utf-8")
    lost = "A fine day.\tday\t2\n\tday\t1\nA dull day.\tday\n"
    (tmp_path / "malformed_reviews.tsv").write_text(reviews + lost, encoding="utf-8")

    def make(case: str, **params: object) -> Task:
        given = {"train_examples": 30, "validation_examples": 4, "test_examples": 4, **CASES[case], **params}
        if "data" in given:
            given["data"] = str(tmp_path / given["data"])
        return TASKS[case](**given)

    return make


def test_every_task_has_a_case():
    assert set(CASES) == set(TASKS)
    assert set(TIGHT) == set(MALFORMED) == set(CASES) - GENERATED
    assert set(CONTEXTS) <= set(CASES)


@every_case
def test_a_task_is_a_value_that_survives_serialisation(case, make):
    check_serialisation(make(case))
    assert len({make(case), make(case)}) == 1


@every_case
def test_wrong_parameters(case, make):
    check_strictness(make(case))


@every_case
def test_texts(case, make):
    check_texts(make(case))


@every_case
def test_the_source_is_identified_without_being_fetched(case, make):
    check_fingerprint(make(case))
    if case not in OWN_DATA:
        check_fingerprint(TASKS[case]())


@every_case
def test_splits_share_nothing(case, make):
    check_splits(make(case), by_group=case not in GENERATED)


@every_case
def test_equal_tasks_have_equal_splits(case, make):
    check_repeatable(make(case))


def test_another_process_sees_the_same_examples(make):
    check_other_process({**{case: make(case) for case in CASES}, "own": Own()})


@every_case
def test_only_answers_are_labelled_and_their_end_is_not_scored(case, make, make_tokenizer):
    for begins in (False, True):
        check_rows(make(case), make_tokenizer(begins))


@every_case
def test_a_control_differs_from_its_input_and_keeps_the_answer(case, make, tokenizer):
    check_controls(make(case), tokenizer, *([CONTEXTS[case]] if case in CONTEXTS else []))


@every_case
def test_scores_are_between_zero_and_one(case, make):
    check_scores(make(case))


@every_case
def test_prepared_rows_make_a_batch(case, make, tokenizer):
    check_prepared(make(case), tokenizer)


@every_case
def test_prepared_twice_is_read_from_the_cache(case, make, tokenizer):
    check_cache(make(case), tokenizer)


@every_case
def test_the_estimate_of_positions_is_of_the_right_size(case, make, tokenizer):
    check_positions(make(case), tokenizer)


@pytest.mark.parametrize("case", TIGHT)
def test_what_does_not_fit_is_dropped_and_counted_never_cut(case, make, tokenizer):
    check_dropped(make(case, **TIGHT[case]), tokenizer)


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_rows_are_set_aside_and_counted(case, make, tokenizer):
    check_quarantined(make(case, **MALFORMED[case]), make(case), 3, tokenizer)


class Own(Task):
    """A task as somebody else may write it, in no table: where something is. Longer with every example."""

    headline = "right"
    instruction = "Name the vessel."
    limit: int = 100
    malformed: int = 0

    def fingerprint(self) -> str:
        return f"own-{self.malformed}"

    def positions(self) -> int:
        return 30

    def score(self, prediction: str, answers: Sequence[str]) -> dict[str, float]:
        return {"right": float(prediction.strip() in answers)}

    def row(self, example: Example, tokenizer) -> Row | None:
        row = super().row(example, tokenizer)
        return row if row is not None and len(row.tokens) <= self.limit else None

    def splits(self) -> Splits:
        tables = {split: table(self.examples_in(split)) for split in SPLITS}
        return Splits(**tables, quarantined=self.quarantine())

    def quarantine(self) -> list[Quarantined]:
        return [Quarantined("own", f"row {i}", "it is empty") for i in range(self.malformed)]

    def examples_in(self, split: Split) -> list[Example]:
        vessels = ("urn", "jug", "old cup", "round bowl")
        inputs = [f"The {'fine ' * i}{split} things are in a vessel.\nAnswer:" for i in range(4)]
        return [
            Example(f"{split}-{i}", inputs[i], inputs[i - 1], (vessels[i],), f"{split} {i // 2}")
            for i in range(4)
        ]


class Hashed(Own):
    """Has other examples in every process."""

    def examples_in(self, split: Split) -> list[Example]:
        return [one._replace(group=str(hash(one.group))) for one in super().examples_in(split)]


def changed(**fields: Callable[[Example], object]) -> dict[str, object]:
    """`examples_in` with fields of every example replaced."""

    def examples_in(self: Own, split: Split) -> list[Example]:
        found = Own.examples_in(self, split)
        return [one._replace(**{name: field(one) for name, field in fields.items()}) for one in found]

    return {"examples_in": examples_in}


def rows(change: Callable[[Row], Row]) -> dict[str, object]:
    """`row` with every row replaced."""
    return {"row": lambda self, example, tokenizer: change(Own.row(self, example, tokenizer))}


def answered(change: Callable[[str], str]) -> Callable[..., Row | None]:
    """`row`, and so `control_row`, of another answer."""

    def row(self: Own, example: Example, tokenizer) -> Row | None:
        return Own.row(self, example._replace(answers=(change(example.answers[0]),)), tokenizer)

    return row


def answered_elsewhere(self: Own, example: Example, tokenizer) -> Row | None:
    return Own.row(self, example._replace(input=example.control, answers=("tin",)), tokenizer)


def scored(score: Callable[[str, Sequence[str]], dict[str, float]]) -> dict[str, object]:
    return {"score": lambda _, said, answers: score(said, answers)}


def shuffled(self: Own, split: Split) -> list[Example]:
    # By the state of the global generator, which stays as it is.
    return random.Random(repr(random.getstate())).sample(Own.examples_in(self, split), 4)


def moved(self: Own, split: Split) -> list[Example]:
    random.random()
    return Own.examples_in(self, split)


def lost(self: Own, split: Split) -> list[Example]:
    return Own.examples_in(self, split)[self.malformed :]


def asked(self: Own) -> str:
    try:
        return str(urllib.request.urlopen("http://127.0.0.1:9/").read())
    except OSError:
        return "no network"


def stored(self: Own) -> str:
    return ensure("own.txt", lambda path: path.write_text("own")).read_text()


def cut(self: Own, example: Example, tokenizer) -> Row:
    row = Task.row(self, example, tokenizer)
    return Row(row.id, row.tokens[: self.limit], row.labels[: self.limit], row.scored[: self.limit])


OWN_LIMIT = 35
"""Between the shortest and the longest example of `Own`, in every split."""

CHECKS = {
    "serialisation": lambda kind, _: check_serialisation(kind()),
    "strictness": lambda kind, _: check_strictness(kind()),
    "texts": lambda kind, _: check_texts(kind()),
    "fingerprint": lambda kind, _: check_fingerprint(kind()),
    "splits": lambda kind, _: check_splits(kind()),
    "repeatable": lambda kind, _: check_repeatable(kind()),
    "rows": lambda kind, tokenizer: check_rows(kind(), tokenizer),
    "controls": lambda kind, tokenizer: check_controls(kind(), tokenizer),
    "scores": lambda kind, _: check_scores(kind()),
    "prepared": lambda kind, tokenizer: check_prepared(kind(), tokenizer),
    "cache": lambda kind, tokenizer: check_cache(kind(), tokenizer),
    "positions": lambda kind, tokenizer: check_positions(kind(), tokenizer),
    "dropped": lambda kind, tokenizer: check_dropped(kind(limit=OWN_LIMIT), tokenizer),
    "quarantined": lambda kind, tokenizer: check_quarantined(kind(malformed=2), kind(), 2, tokenizer),
}

BROKEN = {
    "another after JSON": ("serialisation", {"canonical": lambda _: Task.canonical(Own(limit=5))}),
    "unknown keys": ("strictness", {"model_config": {"extra": "ignore"}}),
    "not frozen": ("strictness", {"model_config": {"frozen": False}}),
    "no instruction": ("texts", {"instruction": " "}),
    "generates, and says loss": ("texts", {"headline": "loss"}),
    "asks the network": ("fingerprint", {"fingerprint": asked}),
    "puts into the cache": ("fingerprint", {"fingerprint": stored}),
    "another fingerprint": ("fingerprint", {"fingerprint": lambda _: str(random.random())}),
    "an id twice": ("splits", changed(id=lambda one: one.id.partition("-")[2])),
    "an input twice": ("splits", changed(input=lambda one: one.input.replace("train", "test"))),
    "a group in all splits": ("splits", changed(group=lambda _: "a group")),
    "no answer": ("splits", changed(answers=lambda _: ())),
    "an order by chance": ("repeatable", {"examples_in": shuffled}),
    "a generator moved": ("repeatable", {"examples_in": moved}),
    "the input labelled": ("rows", rows(lambda row: replace(row, labels=[True] * len(row.tokens)))),
    "the end scored": ("rows", rows(lambda row: replace(row, scored=row.labels))),
    "no end": ("rows", rows(lambda row: Row(row.id, row.tokens[:-1], row.labels[:-1], row.scored[:-1]))),
    "half an answer": ("rows", {"row": answered(lambda answer: answer[: len(answer) // 2])}),
    "a control like the input": ("controls", changed(control=lambda one: one.input)),
    "no control": ("controls", changed(control=lambda _: None)),
    "a control from elsewhere": ("controls", changed(control=lambda _: "The vessel is empty.\nAnswer:")),
    "a control's row like the input's": ("controls", {"control_row": Own.row}),
    "a control with another answer": ("controls", {"control_row": answered_elsewhere}),
    "per cent": ("scores", scored(lambda said, answers: {"right": 100.0 * (said.strip() in answers)})),
    "a right answer is wrong": ("scores", scored(lambda said, answers: {"right": float(said in answers)})),
    "everything is right": ("scores", scored(lambda *_: {"right": 1.0})),
    "no headline": ("scores", scored(lambda said, answers: {"other": float(said.strip() in answers)})),
    "rows of one id": ("prepared", rows(lambda row: replace(row, id="an id"))),
    "never the same source": ("cache", {"fingerprint": lambda _: str(random.random())}),
    "too many positions": ("positions", {"positions": lambda _: 300}),
    "too few positions": ("positions", {"positions": lambda _: 3}),
    "cut to fit": ("dropped", {"row": cut}),
    "no limit": ("dropped", {"row": Task.row}),
    "other data, same fingerprint": ("quarantined", {"fingerprint": lambda _: "own"}),
    "skipped in silence": ("quarantined", {"quarantine": lambda _: []}),
    "sound rows lost": ("quarantined", {"examples_in": lost}),
}
"""The check that must find it, and what the broken task has in place of `Own`'s, by what is broken."""


@pytest.mark.parametrize("check", CHECKS)
def test_a_task_of_ones_own_passes(check, tokenizer):
    CHECKS[check](Own, tokenizer)


def test_one_call_runs_the_suite(tokenizer):
    class Here(Own):
        """A class that no other process can import, which would take seconds."""

    tight, spoiled = Here(limit=OWN_LIMIT), Spoiled(Here(malformed=2), 2)
    check_task(Here(), tokenizer, tight=tight, spoiled=spoiled)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_task_does_not(broken, tokenizer):
    check, instead = BROKEN[broken]
    kind = type("Broken", (Own,), {"__module__": __name__, **instead})
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        CHECKS[check](kind, tokenizer)


@pytest.mark.faults  # for the other process
def test_another_process_with_other_examples_is_found_out():
    with pytest.raises(AssertionError, match="hashed"):
        check_other_process({"hashed": Hashed()})


def test_every_check_is_shown_to_find_something():
    assert {check for check, _ in BROKEN.values()} == set(CHECKS)
