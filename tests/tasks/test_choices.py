"""Choices: likelihoods against the literal form, metrics against scikit-learn and by hand, odd rows."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, f1_score
from transformers import AutoModelForCausalLM

from softprior import assets
from softprior.assets.tokens import joined
from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.methods import METHODS
from softprior.results.examples import ExampleRow, load_examples, rows_of
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.records import Record
from softprior.studies.components import Components
from softprior.studies.estimate import trial_cost
from softprior.tasks import TASKS
from softprior.tasks.base import SPLITS, Example, Task
from softprior.tasks.choosing import Options, brier, calibration_error, commonest, macro_f1
from softprior.tasks.notes import data_notes
from softprior.tasks.prepare import is_prepared, look, prepare
from softprior.testing.literal import literal_logits
from tests.builders import run, tiny, trial

DATA = Path(__file__).parents[1] / "data"

SCIENCE: dict[str, Any] = {
    "data": str(DATA / "science.jsonl"),
    "input": "Question: {question.stem}\nAnswer:",
    "choices": ["options"],
    "answer": "answerKey",
    "answer_is": "letter",
    "id": "id",
    "group": "question.topic",
}
"""In the manner of ARC."""

REVIEWS: dict[str, Any] = {
    "data": str(DATA / "reviews.tsv"),
    "input": "{sentence}\nOpinion:",
    "labels": ["bad", "good"],
    "answer": "label",
    "answer_is": "index",
}
"""In the manner of GLUE."""


def choices(**params: Any) -> Task:
    return TASKS.component(Entry(name="choices", params=params), "own.yaml", "tasks[0]")


def examples(task: Task) -> dict[str, list[Example]]:
    splits = task.splits()
    return {split: [Example.of(row) for row in getattr(splits, split)] for split in SPLITS}


def written(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> tuple[Record, list[ExampleRow], Path]:
    """A trained trial on the science questions, 18 of them to train on."""
    root = tmp_path_factory.mktemp("choices")
    lines = (DATA / "science.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (root / "train.jsonl").write_text("".join(lines[:18]), encoding="utf-8")
    (root / "test.jsonl").write_text("".join(lines[18:]), encoding="utf-8")
    data = {"train": str(root / "train.jsonl"), "test": str(root / "test.jsonl")}
    task = choices(**{**SCIENCE, "data": data, "group": None, "by": "pmi"})
    record = run(trial(task=task), root)
    table = load_examples(StudyFolder(root).examples(record.id), record.id, record.examples or 0)
    return record, rows_of(table)[record.spec.task.canonical()], root


def test_likelihoods_are_those_of_each_choice_alone(ended) -> None:
    """The literal form: each choice a text of its own, transformers' attention, no packing and no batch."""
    record, rows, root = ended
    loaded, prompt = tiny(), load_posterior(StudyFolder(root).posterior(record.id)).final
    folder = Path(assets.__file__).parent / "tiny"
    model = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()

    def likelihood(text: str, choice: str) -> tuple[float, int]:
        before, after = joined(loaded.tokenizer, text, choice)
        with torch.no_grad():
            logits = literal_logits(model, prompt, [*before, *after]).log_softmax(-1)[len(before) - 1 : -1]
        return float(logits[torch.arange(len(after)), torch.tensor(after)].sum()), len(after)

    task = TASKS.component(record.spec.task)
    by_id = {one.id: one for one in examples(task)["test"]}
    assert len(rows) == len(by_id) > 3
    for row in rows:
        example = by_id[row.example]
        given = [likelihood(example.input, one) for one in example.choices]
        alone = [likelihood("Question: \nAnswer:", one) for one in example.choices]
        scores = {
            "sum": np.array([total for total, _ in given]),
            "mean": np.array([total / count for total, count in given]),
            "pmi": np.array([total for total, _ in given]) - np.array([total for total, _ in alone]),
        }
        right = example.choices.index(example.answers[0])
        for by, own in scores.items():
            assert row.metrics[f"accuracy_{by}"] == float(own.argmax() == right)
        shares = np.exp(scores["pmi"]) / np.exp(scores["pmi"]).sum()
        assert row.metrics["brier"] == pytest.approx(
            ((shares - np.eye(len(shares))[right]) ** 2).sum(), abs=1e-4
        )
        assert row.answer == example.choices[scores["pmi"].argmax()]
        assert row.expected == example.answers


def test_the_record_has_means_and_what_all_examples_together_have(ended) -> None:
    record, rows, _ = ended
    task = TASKS.component(record.spec.task)
    assert set(record.test.metrics) == set(task.metrics)
    for name in rows[0].metrics:
        assert record.test.metrics[name] == pytest.approx(np.mean([row.metrics[name] for row in rows]))
    assert record.test.generated == len(rows) == len(record.predictions)
    assert task.headline == "accuracy_pmi"
    checks = {check.name: check.verdict for check in record.sanity}
    assert "generation" not in checks
    assert "fault" not in checks.values()


def made(count: int, kinds: int) -> list[Options]:
    draws = np.random.default_rng(5)
    texts = tuple(f"label {i}" for i in range(kinds))
    return [
        Options(
            texts,
            int(draws.integers(kinds)),
            tuple(-draws.exponential(2, kinds)),
            tuple(draws.integers(1, 4, kinds).tolist()),
            tuple(-draws.exponential(2, kinds)),
        )
        for _ in range(count)
    ]


def test_metrics_are_those_of_scikit_learn() -> None:
    """Brier's of two choices is twice the score that scikit-learn has for two classes."""
    several, two = made(80, 4), made(50, 2)
    predicted, right = [one.chosen("mean") for one in several], [one.right for one in several]
    assert macro_f1(predicted, right) == pytest.approx(f1_score(right, predicted, average="macro"))
    assert macro_f1([0, 0], [0, 2]) == pytest.approx(f1_score([0, 2], [0, 0], average="macro"))
    share = [one.probabilities("sum")[1] for one in two]
    wanted = brier_score_loss([one.right for one in two], share)
    assert np.mean([brier(one, "sum") for one in two]) == pytest.approx(2 * wanted)


def test_labels_have_metrics_of_all_examples_together() -> None:
    options = made(50, 2)
    right = [one.right for one in options]
    task = choices(**REVIEWS, by="mean")
    found = task.choose(options)
    assert {*found.metrics[0], *found.together} == set(task.metrics)
    predicted = [one.texts.index(answer) for one, answer in zip(options, found.answers, strict=True)]
    assert found.together["macro_f1"] == pytest.approx(f1_score(right, predicted, average="macro"))
    assert found.together["commonest"] == max(np.mean(right), 1 - np.mean(right))
    hits = [one["accuracy_mean"] for one in found.metrics]
    assert hits == [float(a == b) for a, b in zip(predicted, right, strict=True)]


def test_calibration_by_hand() -> None:
    """0.55 and 0.6 share a bin (accuracy 0.5, mean 0.575), 0.95 and 1.0 another (1, 0.975), 0.9 has one."""
    found = calibration_error([0.55, 0.6, 0.95, 1.0, 0.9], [True, False, True, True, False])
    assert found == pytest.approx((2 * 0.075 + 2 * 0.025 + 0.9) / 5)
    assert calibration_error([1.0, 1.0], [True, True]) == 0
    assert commonest([0, 2, 2, 1, 2]) == 0.6


def test_a_choice_is_compared_whole_per_token_or_by_what_the_input_adds() -> None:
    one = Options(("a", "b c", "d"), 1, (-2.0, -3.0, -2.5), (1, 2, 1), (-1.0, -1.9, -3.0))
    assert [one.chosen(by) for by in ("sum", "mean", "pmi")] == [0, 1, 2]
    assert one.probabilities("sum") == pytest.approx(np.exp([-2, -3, -2.5]) / np.exp([-2, -3, -2.5]).sum())


def test_labels_by_index_balanced_or_as_they_are() -> None:
    """Each split has as many of one label as of the other; its first rows, too."""
    as_is, balanced = choices(**REVIEWS), choices(**REVIEWS, classes="balanced")
    assert as_is.metrics == (
        *("accuracy_sum", "accuracy_mean", "accuracy_pmi", "brier", "ece", "commonest", "macro_f1"),
    )
    every, even = examples(as_is), examples(balanced)
    assert sum(map(len, every.values())) == 40
    for split in SPLITS:
        counts = Counter(one.answers[0] for one in every[split])
        found = [one.answers[0] for one in even[split]]
        assert Counter(found) == dict.fromkeys(counts, min(counts.values()))
        assert set(found[:2]) == {"bad", "good"}
    assert as_is.without_input(every["test"][0]) == "Opinion:"


def test_what_balancing_leaves_out_is_counted(tmp_path: Path) -> None:
    paths = {}
    for split, (good, bad) in {"train": (9, 4), "validation": (3, 3), "test": (5, 2)}.items():
        labels = ["good"] * good + ["bad"] * bad
        rows = [{"q": f"{split} {i}?", "a": label} for i, label in enumerate(labels)]
        paths[split] = written(tmp_path / f"{split}.jsonl", rows)
    task = choices(data=paths, input="q", labels=["bad", "good"], answer="a", classes="balanced")
    assert [len(own) for own in examples(task).values()] == [8, 6, 4]
    assert task.told(task.look().notes) == [
        "5 rows for train left out to balance the labels",
        "3 rows for test left out to balance the labels",
    ]
    paths["test"] = written(tmp_path / "one.jsonl", [{"q": "one?", "a": "good"}])
    as_is = choices(data=paths, input="q", labels=["bad", "good"], answer="a")
    assert "all rows for test have one label" in as_is.told(as_is.look().notes)[0]
    typo = choices(data=paths, input="q", labels=["bad", "good", "fien"], answer="a")
    assert typo.told(typo.look().notes)[0] == ("no row to train on has the label 'fien'; check its spelling")
    wrong = choices(data=paths, input="q", labels=["bad", "good"], answer="a", answer_is="index")
    with pytest.raises(UserError, match=r"by index from 0 \(bad, good\)\); set answer_is: text$"):
        wrong.check_data()


def test_every_way_to_say_which_is_right(tmp_path: Path) -> None:
    """The right place varies, and some rows number what others letter, as in ARC."""
    rows = [
        {
            "q": f"{i}?",
            **({"a": "y", "b": f"x{i}"} if i % 2 else {"a": f"x{i}", "b": "y"}),
            **{"text": "y", "index": 1 - i % 2, "number": 2 - i % 2},
            "letter": ("12" if i > 3 else "aB")[1 - i % 2],
        }
        for i in range(6)
    ]
    path = written(tmp_path / "a.jsonl", rows)
    for way in ("text", "index", "number", "letter"):
        task = choices(data=path, input="q", choices=["a", "b"], answer=way, answer_is=way)
        found = [one for own in examples(task).values() for one in own]
        assert len(found) == 6
        assert {one.answers for one in found} == {("y",)}
        assert {one.choices.index("y") for one in found} == {0, 1}


OTHERWISE = "correct the rows, or the parameters that say how to read them"
"""The remedy where no other is known."""


@pytest.mark.parametrize(
    ("answers", "remedy"),
    [
        ([0, 1, None, 0], "set answer_is: index"),
        ([1, 2, 1, 2], "set answer_is: number"),
        (["A", "b", "B", "a"], "set answer_is: letter"),
        ([1, 1, 1], "set answer_is: index or number"),
        (["maybe", "never"], OTHERWISE),
    ],
)
def test_answers_of_another_kind_say_which(tmp_path: Path, answers: list[object], remedy: str) -> None:
    rows = [{"q": f"{i}?", "a": answer} for i, answer in enumerate(answers)]
    task = choices(data=written(tmp_path / "a.jsonl", rows), input="q", labels=["no", "yes"], answer="a")
    with pytest.raises(UserError, match=rf"none of the 2 choices by text \(no, yes\)\); {remedy}$"):
        task.check_data()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "question,a\n1?,0\n",
            r"no 'q'; it has question, a\); check the names .* first line",
        ),
        ("q,a\n,no\n,yes\n", rf"'q' is empty\); {OTHERWISE}$"),
        ("q,a\ncaf\xe9,0\n", r"'q' is not UTF-8 \(.*\)\); convert it to UTF-8, such as with iconv"),
        ("q,a\n1?,maybe\n,no\n", rf"the answer 'maybe' is none of .*\); {OTHERWISE}$"),
    ],
)
def test_where_answers_are_not_at_fault_they_are_not_blamed(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.csv").write_text(content, encoding="latin-1")
    task = choices(data=str(tmp_path / "a.csv"), input="q", labels=["no", "yes"], answer="a")
    with pytest.raises(UserError, match=said):
        task.check_data()


def test_a_fault_of_the_training_split_concerns_only_those_who_train(tmp_path: Path, tokenizer) -> None:
    """Of another task under the same prompt, only test examples are read."""
    rows = [{"q": f"{i}?", "a": "good"} for i in range(9)]
    own = {"input": "q", "labels": ["bad", "good"], "answer": "a"}
    path = written(tmp_path / "a.jsonl", rows)
    broken = written(tmp_path / "b.jsonl", [{"q": "why?"}])
    for data, said in (
        (path, "all 7 rows to train on have the answer 'good', so there is nothing to choose"),
        ({"train": path, "test": path}, "nothing is left for train: all of its rows share"),
        ({"train": broken, "test": path}, "b.jsonl contains no usable row"),
    ):
        task = choices(data=data, **own)
        task.check_test_data()
        with pytest.raises(UserError, match=said):
            task.check_data()
        with pytest.raises(UserError, match=said):
            prepare(task, tokenizer, "t")
        found = prepare(task, tokenizer, "t", ("test",))
        assert (len(found.train), len(found.test) > 0) == (0, True)
        assert is_prepared(task, "t", ("test",))
        assert not is_prepared(task, "t")
        with pytest.raises(UserError, match=said):
            prepare(task, tokenizer, "t")
        told = data_notes("own", task, look(task, "t"), tested=True)
        assert not [note for note in told if "train" in note or "validation" in note]
        assert task.positions() >= 1


@pytest.mark.parametrize("written_as", ["1", "1.0", "1.00", "1e0"])
def test_an_index_is_a_number_however_it_is_written(tmp_path: Path, written_as: str) -> None:
    path = tmp_path / "a.jsonl"
    lines = [f'{{"q": "{i}?", "a": "x", "b": "y", "is": {written_as}}}\n' for i in range(4)]
    path.write_text("".join(lines), encoding="utf-8")
    for way, right in (("index", "y"), ("number", "x")):
        task = choices(data=str(path), input="q", choices=["a", "b"], answer="is", answer_is=way)
        assert {one.answers for own in examples(task).values() for one in own} == {(right,)}


def test_rows_as_arc_has_them(tmp_path: Path) -> None:
    """A list of texts inside of an object, beside their labels."""
    rows = [
        {
            "id": f"r{i}",
            "question": f"What follows {i}?",
            "choices": {"text": [str(i + 1), str(i), str(i - 1)], "label": ["A", "B", "C"]},
            "answerKey": "A",
        }
        for i in range(6)
    ]
    own = {"input": "{question}\nAnswer:", "choices": ["choices.text"], "answer": "answerKey", "id": "id"}
    task = choices(data=written(tmp_path / "arc.jsonl", rows), answer_is="letter", **own)
    found = {one.id: one for own in examples(task).values() for one in own}
    assert len(found) == 6
    assert (found["r3"].choices, found["r3"].answers) == (("4", "3", "2"), ("4",))


def test_what_is_wrong_with_rows_is_counted_with_place_and_reason(tmp_path: Path) -> None:
    sound = [{"q": f"{i}?", "c": ["yes", "no"], "a": "yes" if i % 2 else "no"} for i in range(9)]
    odd = [
        {"q": "Why?", "c": ["yes", " yes"], "a": "yes"},
        {"q": "Why?", "c": ["yes", ""], "a": "yes"},
        {"q": "Why?", "c": ["yes"], "a": "yes"},
        {"q": "Why?", "c": [], "a": "yes"},
        {"q": "Why?", "c": ["yes", "no"], "a": "maybe"},
        {"q": "Why?", "c": ["yes", "no"]},
    ]
    task = choices(data=written(tmp_path / "a.jsonl", [*sound, *odd]), input="q", choices=["c"], answer="a")
    assert [row.reason for row in task.splits().quarantined] == [
        "the choice 'yes' appears twice",
        "a choice is empty",
        "it has one choice, 'yes'",
        "'c' is an empty list",
        "the answer 'maybe' is none of the 2 choices by text (yes, no)",
        "no 'a'; it has q, c",
    ]


def test_choices_that_share_tokens(tmp_path: Path, tokenizer) -> None:
    """A shared beginning is no fault, as the whole choice counts; equal tokens leave the example out."""
    rows = [{"q": f"{i}?", "c": ["a big box", "a big boat", "a"], "a": "a big box"} for i in range(9)]
    task = choices(data=written(tmp_path / "a.jsonl", rows), input="q", choices=["c"], answer="a")
    prepared = prepare(task, tokenizer, "t")
    own = prepared.test.choices(0)
    assert own is not None
    assert [
        tokenizer.decode([t for t, on in zip(r.tokens, r.labels, strict=True) if on]) for r in own.given
    ] == [
        " a big box",
        " a big boat",
        " a",
    ]
    assert prepared.notes["choices_begin_another"] == 9
    assert task.told(prepared.notes)[-1].startswith("9 examples with a choice whose tokens begin another's")
    assert prepared.largest >= max(max(row.tokens) for row in own.alone)
    rows[0]["c"] = ["A", "a", "b"]
    rows[0]["a"] = "A"
    blind = _Blind(tokenizer)
    task = choices(data=written(tmp_path / "b.jsonl", rows), input="q", choices=["c"], answer="a")
    assert prepare(task, blind, "blind").notes["choices_alike"] == 1
    assert any(
        "1 example left out, with two choices" in line
        for line in data_notes("own", task, look(task, "blind"))
    )


def test_only_pmi_needs_choices_without_the_input(tmp_path: Path, tokenizer) -> None:
    """Here "Answer:" alone takes the first word in; the tokens of choices there are their own."""
    rows = [{"q": f"{i}?", "c": ["yes", "no"], "a": "yes"} for i in range(9)]
    own: dict[str, Any] = {
        "data": written(tmp_path / "a.jsonl", rows),
        "input": "q",
        "choices": ["c"],
        "answer": "a",
    }
    merging = _Merging(tokenizer)
    by_sum = choices(**own)
    prepared = prepare(by_sum, merging, "merging")
    assert prepared.dropped == 0
    assert prepared.notes["choices_not_alone"] == 9
    (said,) = by_sum.told(prepared.notes)
    assert said.startswith("9 examples whose choices cannot follow the text in place of the input; a split")
    found = prepared.test.choices(0)
    assert found is not None
    assert (len(found.given), found.alone) == (2, [])
    options = [Options(("yes", "no"), 0, (-1.0, -2.0), (1, 1), alone) for alone in (None, (-3.0, -1.0))]
    both, (alone,) = by_sum.choose(options).metrics, by_sum.choose(options[1:]).metrics
    assert all("accuracy_pmi" not in one for one in both), "no mean over some of the examples"
    assert set(alone) - set(both[0]) == {"accuracy_pmi"} == set(by_sum.optional)
    assert choices(**own, by="pmi").optional == ()
    with pytest.raises(UserError, match="for train fits"):
        prepare(choices(**own, by="pmi"), merging, "merging")


class _Merging:
    """A tokenizer that writes "Answer: yes" as one token, and "Answer:" alone as another."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, text: str, **options: Any) -> Any:
        return self._inner(re.sub("^Answer: (.)", r"\1", text), **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Blind:
    """A tokenizer that does not tell cases apart, as some do not."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, text: str, **options: Any) -> Any:
        return self._inner(text.lower(), **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"labels": ["one"]}, "has one label"),
        ({"labels": ["one", "one "]}, "has a label twice"),
        ({"choices": ["a"]}, "labels .* or choices .*: give one of them"),
        ({"labels": []}, "labels .* or choices .*: give one of them"),
        ({"labels": [], "choices": ["a"], "classes": "balanced"}, "classes = 'balanced' needs labels"),
        ({"max_new_tokens": 4}, "max_new_tokens has no effect"),
        ({"by": "length"}, "is not a choice"),
    ],
)
def test_a_wrong_parameter_is_one_sentence(params: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        choices(**{**REVIEWS, **params})


def test_one_class_is_nothing_to_choose_from(tmp_path: Path) -> None:
    rows = [{"q": f"{i}?", "a": "good"} for i in range(9)]
    path = written(tmp_path / "a.jsonl", rows)
    with pytest.raises(
        UserError, match="all 7 rows to train on have the answer 'good', so there is nothing to choose"
    ):
        choices(data=path, input="q", labels=["bad", "good"], answer="a").check_data()
    path = written(tmp_path / "b.jsonl", [*rows, {"q": "bad?", "a": 1}])
    said = r"nothing to choose \(1 malformed row left out, .* the answer '1' is none .*\); add rows with"
    with pytest.raises(UserError, match=said):
        choices(data=path, input="q", labels=["bad", "good"], answer="a").check_data()


def test_the_estimate_counts_every_choice() -> None:
    found = {}
    for labels in (("bad", "good"), ("bad", "good", "fair", "poor")):
        task = choices(**{**REVIEWS, "labels": list(labels)})
        spec = trial(method=METHODS["none"](), task=task)
        components = Components(
            {spec.task.canonical(): task}, {spec.method.canonical(): METHODS["none"]()}, {}
        )
        found[len(labels)] = trial_cost(spec, components).evaluated
    # A loss twice, and a loss for each choice; there is no context to swap.
    assert found[4] / found[2] == pytest.approx(6 / 4)
