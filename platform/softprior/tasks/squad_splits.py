"""Divides questions among splits: by article, then by what splits may not share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from softprior.tasks.base import SPLITS, Split
from softprior.tasks.partition import split_in_halves, split_in_order

SHARED_ARTICLE, SHARED_CONTEXT = "shared_article", "shared_context"
"""The notes that count questions which a later split takes from an earlier one."""


class Standing(NamedTuple):
    """Where a question stands, which decides about its split.

    Attributes:
        title: the article's.
        context: what the paragraph and its copies have in common, or a number that stands for it.
    """

    title: str
    context: Hashable


class Division(NamedTuple):
    """The splits of questions.

    Attributes:
        training, evaluation: the split of each question of the two parts; None for those that are left out.
        notes: number of questions left out, by what they share with a later split.
    """

    training: list[Split | None]
    evaluation: list[Split | None]
    notes: Counter[str]

    @property
    def sizes(self) -> dict[Split, int]:
        """Number of questions of each split."""
        return {split: self.training.count(split) + self.evaluation.count(split) for split in SPLITS}


def divide(training: Sequence[Standing], evaluation: Sequence[Standing]) -> Division:
    """The splits of questions.

    Articles to evaluate on are halved into validation and test, and all others are trained on; where there
    are none, those to train on are divided 80 : 10 : 10. A paragraph of two splits stays in the later one
    (test before validation before training).
    """
    notes: Counter[str] = Counter()
    trained: list[Split | None]
    if evaluation:
        places = split_in_halves({question.title for question in evaluation})
        trained = [None if question.title in places else "train" for question in training]
        notes[SHARED_ARTICLE] = trained.count(None)
    else:
        places = split_in_order({question.title for question in training})
        trained = [places[question.title] for question in training]
    evaluated: list[Split | None] = [places[question.title] for question in evaluation]
    taken: set[Hashable] = set()
    for split in reversed(SPLITS):
        own = set()
        for questions, splits in ((training, trained), (evaluation, evaluated)):
            for i, question in enumerate(questions):
                if splits[i] != split:
                    continue
                if question.context in taken:
                    splits[i] = None
                    notes[SHARED_CONTEXT] += 1
                else:
                    own.add(question.context)
        taken |= own
    return Division(trained, evaluated, notes)
