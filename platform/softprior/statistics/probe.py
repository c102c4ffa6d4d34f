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
from softprior.statistics.clusters import DOCUMENTS, Points
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
        null: mean balanced accuracy with the labels of documents permuted before fitting; near 0.5.
        p: share of permutations (the observed one included) that reach `accuracy`.
    """

    tokens: tuple[int, int]
    documents: tuple[int, int]
    note: str
    accuracy: float = math.nan
    low: float = math.nan
    high: float = math.nan
    null: float = math.nan
    p: float = math.nan


def probe(
    a: Points, b: Points, seed: int, share: float = 0.3, permutations: int = 20, resamples: int = 1000
) -> Probe:
    """Logistic regression on standardised vectors, split by document; call it on `matched` points.

    Args:
        share: of each task's documents that are held out.
        permutations: refits with permuted labels. Documents of the training part and of the held-out part
            are permuted among themselves, so that both keep both tasks.
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
    sizes, held_index = np.bincount(index, minlength=len(names)).astype(np.float64), index[held]

    def right(labels: Int[np.ndarray, "G"]) -> tuple[Float[np.ndarray, "G"], bool]:
        """Right tokens of each held-out document, given all documents' labels; whether the fit converged."""
        found, converged = _fitted_predictions(training, labels[index[~held]], testing)
        hits = np.bincount(held_index, weights=found == labels[held_index], minlength=len(names))
        return hits, converged

    def balanced(hits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Mean over labels of the share of right tokens; `weights` [G R] says how often a document counts."""
        shares = []
        for label in (0, 1):
            own = held_documents & (labels == label)
            shares.append((hits[own] @ weights[own]) / (sizes[own] @ weights[own]))
        return np.mean(shares, axis=0)

    once = np.ones((len(names), 1))
    hits, converged = right(task_of)
    accuracy = float(balanced(hits, task_of, once)[0])
    weights = np.zeros((len(names), resamples))
    for label in (0, 1):
        own = held_documents & (task_of == label)
        weights[own] = resampled(int(own.sum()), resamples, generator)
    low, high = interval(balanced(hits, task_of, weights))

    null = []
    for _ in range(permutations):
        labels = task_of.copy()
        for part in (held_documents, ~held_documents):
            labels[part] = generator.permutation(labels[part])
        null.append(float(balanced(right(labels)[0], labels, once)[0]))
    return Probe(
        tokens=_by_task(task[held]),
        documents=_by_task(task_of[held_documents]),
        note="" if converged else "the probe did not converge",
        accuracy=accuracy,
        low=low,
        high=high,
        null=float(np.mean(null)) if null else math.nan,
        p=(1 + sum(value >= accuracy for value in null)) / (1 + permutations),
    )


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
