"""Which of several choices a model finds likeliest, and how well its probabilities are calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

By = Literal["sum", "mean", "pmi"]
"""How choices are compared: by the log-likelihood of a choice's tokens, by its mean over them, or by what the
input adds to it (pointwise mutual information; Holtzman et al. 2021, arXiv 2104.08315)."""

WAYS: tuple[By, ...] = get_args(By)

BINS = 10
"""Bins of equal width into which confidences are sorted for the calibration error."""


class Options(NamedTuple):
    """The choices of one example and what a model says of each.

    Attributes:
        texts: the choices in order.
        right: index of the right one.
        given: log-likelihood of each after the input, in nats, summed over its tokens. The end-of-sequence
            token is not among them.
        tokens: number of tokens of each.
        alone: as `given`, without the input; None where the choices have no tokens there.
    """

    texts: tuple[str, ...]
    right: int
    given: tuple[float, ...]
    tokens: tuple[int, ...]
    alone: tuple[float, ...] | None

    @property
    def ways(self) -> tuple[By, ...]:
        """How they can be compared."""
        return WAYS if self.alone is not None else tuple(by for by in WAYS if by != "pmi")

    def scores(self, by: By) -> Float[np.ndarray, "K"]:
        """A number for each choice: the largest is chosen. `by` is one of `ways`."""
        found: Float[np.ndarray, "K"] = np.array(self.given)
        if by == "mean":
            found = found / np.array(self.tokens)
        return found - np.array(self.alone) if by == "pmi" else found

    def chosen(self, by: By) -> int:
        """Index of the chosen one, the first of equals."""
        return int(self.scores(by).argmax())

    def probabilities(self, by: By) -> Float[np.ndarray, "K"]:
        """The scores as probabilities that add up to 1: their softmax."""
        scores = self.scores(by)
        powers: Float[np.ndarray, "K"] = np.exp(scores - scores.max())
        shares: Float[np.ndarray, "K"] = powers / powers.sum()
        return shares


class Chosen(NamedTuple):
    """What a task makes of the choices of several examples.

    Attributes:
        answers: the chosen texts.
        metrics: of each example, by name.
        together: metrics that only all examples together have.
    """

    answers: list[str]
    metrics: list[dict[str, float]]
    together: dict[str, float]


def brier(options: Options, by: By) -> float:
    """Sum over choices of the squared difference of its probability and 1 or 0: from 0 (best) to 2."""
    wanted = np.arange(len(options.texts)) == options.right
    return float(((options.probabilities(by) - wanted) ** 2).sum())


def calibration_error(confidences: Sequence[float], right: Sequence[bool]) -> float:
    """Mean over examples of how far accuracy and mean confidence of their bin differ: from 0 (best) to 1.

    The expected calibration error with bins of equal width, each with its upper end (Guo et al. 2017).
    """
    bins = np.clip(np.ceil(np.array(confidences) * BINS) - 1, 0, BINS - 1).astype(int)
    gaps = np.array(right, dtype=float) - np.array(confidences)
    return float(np.abs(np.bincount(bins, gaps)).sum() / len(gaps))


def macro_f1(predicted: Sequence[int], right: Sequence[int]) -> float:
    """The mean of the F1 of each class that is right or predicted anywhere."""
    one, other = np.array(predicted), np.array(right)
    scores = []
    for kind in sorted({*predicted, *right}):
        both = ((one == kind) & (other == kind)).sum()
        scores.append(2 * both / ((one == kind).sum() + (other == kind).sum()))
    return float(np.mean(scores))


def commonest(right: Sequence[int]) -> float:
    """Share of the commonest right choice: what always giving it would score."""
    return float(np.bincount(np.array(right)).max() / len(right))
