"""Arithmetic questions: DeepMind's generator, made reproducible, and the project's own module."""

from __future__ import annotations

import importlib
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np

from softprior.assets.data import data_fingerprint
from softprior.seeding import derive
from softprior.tasks.base import SPLITS, Split
from softprior.tasks.partition import DATA_SEED, keyed_order, keys_for, split_of

GENERATION_VERSION = 1
"""Increased whenever the same module, difficulty and counts give other questions."""

DeepMindModule = Literal[
    "add_or_sub",
    "add_sub_multiple",
    "add_or_sub_in_base",
    "mul",
    "div",
    "mul_div_multiple",
    "mixed",
    "nearest_integer_root",
    "simplify_surd",
]
Module = Literal[DeepMindModule, "two_digit_addition"]
Difficulty = Literal["train-easy", "train-medium", "train-hard", "train", "interpolate"]
NINE: tuple[DeepMindModule, ...] = get_args(DeepMindModule)

# The longest question and answer of DeepMind's own data, so that ours are drawn from the same set.
_LONGEST_QUESTION = 160
"""Most characters of a question; longer ones are left out."""

_LONGEST_ANSWER = 30
"""Most characters of an answer."""

_NUMBERS = re.compile(r"\w*\d[\w.]*")


class Sum(NamedTuple):
    """A question with its exact answer, both as text."""

    module: str
    question: str
    answer: str


def source_fingerprint() -> str:
    """Changes with the generator, with sympy (which prints the answers), and with the code here."""
    return f"{data_fingerprint('mathematics')}-sympy-{version('sympy')}-{GENERATION_VERSION}"


def operands(question: str) -> str:
    """The numbers in a question, sorted: the same for "12 + 34" and "What is 34 plus 12?".

    Splits are by this and not by the wording, so that no tested sum is trained on in other words.
    """
    return " ".join(sorted(number.rstrip(".") for number in _NUMBERS.findall(question)))


def draw(
    modules: tuple[Module, ...], difficulty: Difficulty, counts: dict[Split, int]
) -> dict[Split, list[Sum]]:
    """Distinct questions of each module, divided into splits by the hash of their numbers.

    Args:
        difficulty: range of entropy, as DeepMind's generator names them. `two_digit_addition` has one.
        counts: number of questions per module, by split; fewer are returned if a module has no more.
    """
    drawn: dict[Split, list[Sum]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    for module in modules:
        missing = dict(counts)
        # Several times what distinct questions would take: after that the module has no more of them.
        limit = 1000 + 4 * keys_for(counts)
        questions = (
            _two_digit_additions()
            if module == "two_digit_addition"
            else _generated(module, difficulty, limit)
        )
        for question, answer in questions:
            split = split_of(operands(question))
            if missing[split] > 0 and question not in seen:
                seen.add(question)
                missing[split] -= 1
                drawn[split].append(Sum(module, question, answer))
            if not any(missing.values()):
                break
    return drawn


def _two_digit_additions() -> Iterator[tuple[str, str]]:
    questions = {f"What is {a} + {b}?": str(a + b) for a in range(10, 100) for b in range(10, 100)}
    return ((question, questions[question]) for question in keyed_order(questions, "two_digit_addition"))


def _generated(module: str, difficulty: Difficulty, limit: int) -> Iterator[tuple[str, str]]:
    """The first `limit` questions of a module: question k has a seed of its own, whoever asks for it."""
    sample = _deepmind(difficulty)[module]
    for index in range(limit):
        with _seeded(derive(DATA_SEED, "arithmetic", module, difficulty, index)):
            problem = sample()
        question, answer = str(problem.question), str(problem.answer)
        if len(question) <= _LONGEST_QUESTION and len(answer) <= _LONGEST_ANSWER:
            yield question, answer


class _Problem(Protocol):
    """What a module of mathematics-dataset generates."""

    @property
    def question(self) -> object: ...
    @property
    def answer(self) -> object: ...


@cache
def _deepmind(difficulty: Difficulty) -> dict[str, Callable[[], _Problem]]:
    # mathematics-dataset is of 2019 and imports this function from where sympy had it then. The
    # package has to be found in sys.modules: as an attribute, `diophantine` is a function.
    importlib.import_module("sympy.solvers.diophantine.diophantine")
    package = sys.modules["sympy.solvers.diophantine"]
    moved = sys.modules["sympy.solvers.diophantine.diophantine"]
    package.base_solution_linear = moved.base_solution_linear  # type: ignore[attr-defined]
    from mathematics_dataset.modules import arithmetic

    if difficulty == "interpolate":
        tested: dict[str, Callable[[], _Problem]] = arithmetic.test()
        return tested
    thirds = {"train-easy": (0, 1), "train-medium": (1, 2), "train-hard": (2, 3), "train": (0, 3)}[difficulty]

    def entropy(whole: tuple[float, float]) -> tuple[float, float]:
        low, high = whole
        return low + (high - low) * thirds[0] / 3, low + (high - low) * thirds[1] / 3

    trained: dict[str, Callable[[], _Problem]] = arithmetic.train(entropy)
    return trained


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators that the library draws from, and puts their states back."""
    rng = importlib.import_module("sympy.core.random").rng
    states = random.getstate(), np.random.get_state(), rng.getstate()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    rng.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        rng.setstate(states[2])
