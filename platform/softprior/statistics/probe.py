"""Whether a linear probe tells the tokens of two tasks apart in documents it has not seen."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from softprior.results.numbers import Number, Numbers
from softprior.seeding import numpy_generator
from softprior.statistics.clusters import DOCUMENTS
from softprior.statistics.documents import RESAMPLES, bootstrap, held_out
from softprior.statistics.points import Points, position_bins
from softprior.statistics.swaps import Strata, Swaps, mean_swaps


class Probe(Numbers):
    """How well a linear probe tells the tokens of two tasks apart, in documents it has not seen.

    Attributes:
        tokens: held-out tokens of each task.
        documents: held-out documents of each task.
        note: why the numbers are None, or a warning about them; empty if there is nothing to say.
        accuracy: balanced accuracy (mean over tasks of the share of right tokens), in [0, 1].
        low: end of its 95% interval over the held-out documents, with the probe fixed (`bootstrap`).
        high: the other end.
        swaps: the one-sided test that predictions of held-out tokens lean to their task, within bins of
            positions. The predictions are fixed: the probe has not seen these documents, so if tasks do not
            differ its predictions say nothing about their labels.
    """

    tokens: tuple[int, int] = (0, 0)
    documents: tuple[int, int] = (0, 0)
    note: str = ""
    accuracy: Number = None
    low: Number = None
    high: Number = None
    swaps: Swaps = Swaps()


def probe(
    a: Points, b: Points, seed: int, share: float = 0.3, permutations: int = 999, resamples: int = RESAMPLES
) -> Probe:
    """Logistic regression on standardised vectors, split by document; call it on `matched` points.

    Args:
        share: of each task's documents that are held out.
        permutations: swaps of pairs of documents; p is at least 1 / (permutations + 1).
        resamples: bootstrap samples of the held-out documents of each task.
    """
    task = np.repeat([0, 1], [len(a.documents), len(b.documents)])
    pooled = np.concatenate([a.documents.numpy(), b.documents.numpy()])
    # A document number in both tasks is two texts.
    names, index = np.unique(np.stack([task, pooled], axis=1), axis=0, return_inverse=True)
    task_of = names[:, 0]
    counts = _by_task(task_of)
    if min(counts) < DOCUMENTS:
        return Probe(note=f"each task needs {DOCUMENTS} documents, but there are {counts[0]} and {counts[1]}")
    generator = numpy_generator(seed, "probe")
    held_documents = _held_out(task_of, share, generator)
    held = held_documents[index]

    vectors = np.concatenate([a.vectors.numpy(), b.vectors.numpy()]).astype(np.float64)
    scaler = StandardScaler().fit(vectors[~held])
    training, testing = scaler.transform(vectors[~held]), scaler.transform(vectors[held])
    labels = task[held]
    predicted, converged = _fitted_predictions(training, task[~held], testing)
    right, held_index = predicted == labels, index[held]

    def balanced(weights: Float[np.ndarray, "G R"]) -> Float[np.ndarray, "R"]:
        """Mean over tasks of the share of right tokens, each document counting as often as its weight."""
        shares = []
        for label in (0, 1):
            own = held_index[labels == label]
            hits = np.bincount(own, weights=right[labels == label], minlength=len(names))
            shares.append((hits @ weights) / (np.bincount(own, minlength=len(names)) @ weights))
        mean: Float[np.ndarray, "R"] = np.mean(shares, axis=0)
        return mean

    here = np.flatnonzero(held_documents)

    def of_held_out(weights: Float[np.ndarray, "G R"]) -> Float[np.ndarray, "R"]:
        whole = np.zeros((len(names), weights.shape[1]))
        whole[here] = weights
        return balanced(whole)

    low, high = bootstrap(of_held_out, task_of[here], generator, resamples)
    positions = [points.positions.numpy()[held[task == label]] for label, points in enumerate((a, b))]
    one, other = (
        Strata(held_index[labels == label], places) for label, places in enumerate(position_bins(positions))
    )
    return Probe(
        tokens=_by_task(task[held]),
        documents=_by_task(task_of[held_documents]),
        note="" if converged else "the probe did not converge",
        accuracy=float(balanced(np.ones((len(names), 1)))[0]),
        low=low,
        high=high,
        swaps=mean_swaps(one, other, predicted.astype(np.float64), seed, permutations),
    )


def _held_out(
    task_of: Int[np.ndarray, "D"], share: float, generator: np.random.Generator
) -> Bool[np.ndarray, "D"]:
    """Which documents are held out, of each task the same share."""
    held = np.zeros(len(task_of), dtype=bool)
    for label in (0, 1):
        own = np.flatnonzero(task_of == label)
        held[own] = held_out(own, share, generator)
    return held


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
