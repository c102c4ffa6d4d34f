"""Arithmetic: the generator tamed, splits by numbers, exact answers."""

import random
import re
from fractions import Fraction

import numpy as np
import pytest
from sympy import sympify

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.tasks import Arithmetic, arithmetic
from softprior.tasks.arithmetic_source import NINE, draw, operands
from softprior.tasks.base import SPLITS
from softprior.tasks.prepare import prepare

FEW = {"train": 8, "validation": 2, "test": 2}


@pytest.mark.parametrize("module", NINE)
def test_every_module_generates(module):
    for difficulty in ("train-easy", "interpolate"):
        drawn = draw((module,), difficulty, FEW)
        assert {split: len(drawn[split]) for split in SPLITS} == FEW
        assert all(len(one.question) <= 160 and 0 < len(one.answer) <= 30 for one in drawn["train"])


@pytest.mark.parametrize("difficulty", ["train-easy", "train-hard"])
def test_answers_are_right(difficulty):
    drawn = draw(("add_sub_multiple", "mul_div_multiple", "mixed", "simplify_surd"), difficulty, FEW)
    for one in drawn["train"]:
        expression = re.sub(
            r"^(What is the value of|What is|Evaluate|Calculate|Simplify) |[.?]$", "", one.question
        )
        assert (sympify(expression) - sympify(one.answer)).equals(0), one


def test_division_answers_are_exact():
    for one in draw(("div",), "train-easy", FEW)["train"]:
        p, q = map(int, re.findall(r"-?\d+", one.question))
        assert Fraction(one.answer) == Fraction(p, q)


def test_global_generators_are_left_as_they_were():
    random.seed(1)
    np.random.seed(1)
    draw(("mixed",), "train-easy", FEW)
    after = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    assert after == (random.random(), np.random.random())


def test_questions_do_not_depend_on_the_global_generators():
    random.seed(1)
    first = draw(("mixed", "simplify_surd"), "train-easy", FEW)
    random.seed(2)
    assert draw(("mixed", "simplify_surd"), "train-easy", FEW) == first


def test_asking_for_more_keeps_what_there_was():
    few = draw(("mul",), "train-easy", FEW)
    many = draw(("mul",), "train-easy", {"train": 30, "validation": 5, "test": 5})
    for split in SPLITS:
        assert many[split][: FEW[split]] == few[split]


def test_difficulty_makes_numbers_longer():
    def digits(difficulty):
        drawn = draw(("mul",), difficulty, {"train": 40, "validation": 1, "test": 1})
        return sum(len(operands(one.question)) for one in drawn["train"])

    assert digits("train-easy") < digits("train-medium") < digits("train-hard")


def test_no_numbers_are_tested_that_were_trained_on():
    task = Arithmetic(modules=("two_digit_addition", "add_or_sub"), train_examples=600)
    splits = task.splits()
    numbers = {split: {operands(text) for text in getattr(splits, split)["input"]} for split in SPLITS}
    assert not numbers["train"] & (numbers["validation"] | numbers["test"])
    assert not numbers["validation"] & numbers["test"]


def test_operands_are_the_same_in_other_words():
    assert operands("What is 12 + 34?") == operands("Add 34 and 12.") == "12 34"
    assert operands("In base 16, what is cc3 - 2?") == "16 2 cc3"
    assert operands("0.5 times -3.") == "0.5 3"


def test_modules_are_balanced():
    task = Arithmetic(modules=("mul", "div", "two_digit_addition"), train_examples=30)
    group = task.splits().train["group"]
    assert {module: list(group[:12]).count(module) for module in task.modules} == dict.fromkeys(
        task.modules, 4
    )


def test_two_digit_addition_is_all_pairs_and_says_when_they_run_out(tokenizer):
    task = Arithmetic(
        modules=("two_digit_addition",), train_examples=8000, validation_examples=2000, test_examples=2000
    )
    splits = task.splits()
    texts = [text for split in SPLITS for text in getattr(splits, split)["input"]]
    assert len(set(texts)) == len(texts) == 8100
    record = splits.train[0]
    a, b = map(int, re.fullmatch(r"What is (\d\d) \+ (\d\d)\?\nAnswer:", record["input"]).groups())
    assert record["answers"] == [str(a + b)]
    short = prepare(
        Arithmetic(modules=("two_digit_addition",), train_examples=10, test_examples=2000), tokenizer, "t"
    )
    assert short.notes == {"test_short": 2000 - len(splits.test)}


def test_generation_is_cached(monkeypatch):
    first = Arithmetic(modules=("mul",), train_examples=5, validation_examples=2, test_examples=2).splits()
    monkeypatch.setattr(arithmetic, "draw", lambda *_: pytest.fail("generated again"))
    task = Arithmetic(
        modules=("mul",), train_examples=5, validation_examples=2, test_examples=2, max_new_tokens=3
    )
    assert task.splits().train.to_list() == first.train.to_list()


def test_score_is_exact_but_for_spaces_around():
    task = Arithmetic()
    assert task.score(" 46 ", ("46",)) == {"exact_match": 1.0}
    assert task.score("46.", ("46",)) == {"exact_match": 0.0}
    assert task.score("", ("46",)) == {"exact_match": 0.0}


def test_the_order_of_modules_is_no_part_of_the_identity():
    assert Arithmetic(modules=("mul", "div")) == Arithmetic(modules=("div", "mul"))


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"modules": ["mull"]}, "did you mean 'mul'"),
        ({"modules": []}, "modules = "),
        ({"modules": ["mul", "mul"]}, "names a module twice"),
        ({"difficulty": "easy"}, "difficulty = 'easy' is not a choice; .*train-easy"),
        ({"train_examples": 0}, "train_examples = 0"),
    ],
)
def test_wrong_parameters(params, sentence):
    with pytest.raises(UserError, match=sentence):
        validate(Arithmetic, params, "study.yaml")
