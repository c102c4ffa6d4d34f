"""Does a linear probe tell the tokens of two tasks apart in documents it has not seen."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from softprior.seeding import numpy_generator
from softprior.statistics.clusters import DOCUMENTS, Points, independent
from softprior.statistics.documents import held_out, interval, resampled


@dataclass(frozen=True)
class Probe:
    """How well a linear probe tells the tokens of two tasks apart, in documents it has not seen.

    Attributes:
        tokens: held-out tokens of each task.
        documents: held-out documents of each task.
        note: why the numbers are nan, or a warning about them; empty if there is nothing to say.
        accuracy: balanced accuracy (mean over tasks of the share of right tokens), in [0, 1].
        low: end of its 95% percentile interval over the held-out documents, the probe being held.
        high: the other end.
        p: share of permutations of the labels of held-out documents (the observed one included) that reach
            the accuracy on one token of each, at like positions (`clusters.independent`). The predictions are
            held: the probe has not seen these documents, so under one law its predictions say nothing about
            their labels.
        independent: those tokens, equally many of each task; p is nan with fewer than two.
    """

    tokens: tuple[int, int]
    documents: tuple[int, int]
    note: str
    accuracy: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    independent: int = 0


def probe(
    a: Points, b: Points, seed: int, share: float = 0.3, permutations: int = 999, resamples: int = 1000
) -> Probe:
    """Logistic regression on standardised vectors, split by document; call it on `matched` points.

    Args:
        share: of each task's documents that are held out.
        permutations: draws of the null; p is at least 1 / (permutations + 1).
        resamples: bootstrap samples of the held-out documents of each task.
    """
    task = np.repeat([0, 1], [len(a.documents), len(b.documents)])
    pooled = np.concatenate([a.documents.numpy(), b.documents.numpy()])
    # A document number in both tasks is two texts.
    names, index = np.unique(np.stack([task, pooled], axis=1), axis=0, return_inverse=True)
    task_of = names[:, 0]
    counts = _by_task(task_of)
    if min(counts) < DOCUMENTS:
        note = f"each task needs {DOCUMENTS} documents, and there are {counts[0]} and {counts[1]}"
        return Probe((0, 0), (0, 0), note)
    generator = numpy_generator(seed, "probe")
    held_documents = np.zeros(len(names), dtype=bool)
    for label in (0, 1):
        own = np.flatnonzero(task_of == label)
        held_documents[own] = held_out(own, share, generator)
    held = held_documents[index]

    vectors = np.concatenate([a.vectors.numpy(), b.vectors.numpy()]).astype(np.float64)
    scaler = StandardScaler().fit(vectors[~held])
    training, testing = scaler.transform(vectors[~held]), scaler.transform(vectors[held])
    labels = task[held]
    predicted, converged = _fitted_predictions(training, task[~held], testing)
    right, held_index = predicted == labels, index[held]

    once, weights = np.ones((len(names), 1)), np.zeros((len(names), resamples))
    for label in (0, 1):
        own = held_documents & (task_of == label)
        weights[own] = resampled(int(own.sum()), resamples, generator)

    def balanced(weights: Float[np.ndarray, "G R"]) -> Float[np.ndarray, "R"]:
        """Mean over tasks of the share of right tokens, each document counting as often as its weight."""
        shares = []
        for label in (0, 1):
            own = held_index[labels == label]
            hits = np.bincount(own, weights=right[labels == label], minlength=len(names))
            shares.append((hits @ weights) / (np.bincount(own, minlength=len(names)) @ weights))
        mean: Float[np.ndarray, "R"] = np.mean(shares, axis=0)
        return mean

    low, high = interval(balanced(weights))
    parts = [points.take(np.flatnonzero(held[task == label])) for label, points in enumerate((a, b))]
    one, other = independent(parts, generator)
    guesses = np.concatenate([predicted[labels == 0][one], predicted[labels == 1][other]])
    return Probe(
        tokens=_by_task(task[held]),
        documents=_by_task(task_of[held_documents]),
        note="" if converged else "the probe did not converge",
        accuracy=float(balanced(once)[0]),
        low=low,
        high=high,
        p=_permuted(guesses, permutations, generator),
        independent=len(one),
    )


def _permuted(guesses: Int[np.ndarray, "N"], permutations: int, generator: np.random.Generator) -> float:
    """The p-value of predictions of tokens whose first half is of the first task."""
    half = len(guesses) // 2
    if half < 2:
        return math.nan
    # Halves are equal, so balanced accuracy rises with the second task's count in the second half alone.
    counts = np.array([generator.permutation(guesses)[half:].sum() for _ in range(permutations)])
    return (1 + int((counts >= guesses[half:].sum()).sum())) / (1 + permutations)


def _by_task(labels: Int[np.ndarray, "N"]) -> tuple[int, int]:
    """How many are of the first task and of the second."""
    return int((labels == 0).sum()), int((labels == 1).sum())


def _fitted_predictions(
    training: Float[np.ndarray, "N D"], labels: Int[np.ndarray, "N"], testing: Float[np.ndarray, "M D"]
) -> tuple[Int[np.ndarray, "M"], bool]:
    """Predicted labels of the testing vectors, and whether the fit converged."""
    # Labels of few tokens in many dimensions are separable, where lbfgs was far slower.
    model = LogisticRegression(class_weight="balanced", solver="newton-cholesky", max_iter=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it goes into the result
        model.fit(training, labels)
    return model.predict(testing), int(model.n_iter_[0]) < model.max_iter
