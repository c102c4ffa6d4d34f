"""Exact match and word overlap of SQuAD v1.1, as its official evaluation script defines them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


METRICS = ("exact_match", "f1", "precision", "recall")
"""Metrics of tasks whose answers are compared word by word."""


class Overlap(NamedTuple):
    """Multiset overlap of words, each value in [0, 1]; `f1` is the harmonic mean of the others."""

    precision: float
    recall: float
    f1: float


def normalise(text: str) -> str:
    """Lower case without ASCII punctuation and English articles, words joined by single spaces.

    In the script's order: punctuation is deleted before articles, so "a-b" becomes the word "ab".
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 where the normalised prediction equals any normalised answer, else 0.0."""
    return float(any(normalise(prediction) == normalise(answer) for answer in answers))


def overlap(prediction: str, answers: Sequence[str]) -> Overlap:
    """Word overlap with the answer that gives the largest F1 (the first of equals).

    No word in common is 0, even if prediction and answer are both empty, as in the script.
    """
    return max((_overlap(prediction, answer) for answer in answers), key=lambda found: found.f1)


def _overlap(prediction: str, answer: str) -> Overlap:
    predicted, gold = normalise(prediction).split(), normalise(answer).split()
    common = sum((Counter(predicted) & Counter(gold)).values())
    if common == 0:
        return Overlap(0.0, 0.0, 0.0)
    precision, recall = common / len(predicted), common / len(gold)
    return Overlap(precision, recall, 2 * precision * recall / (precision + recall))
