"""Two tasks at one site on tokens of the same ids: how much of their distance comes from the model.

Tasks have different words, and a model writes the word into each token's state. So the tasks are compared
within token ids (and within wide bins of positions): words that only one task has take no part.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from softprior.results.numbers import Number, Numbers
from softprior.seeding import numpy_generator
from softprior.statistics.documents import held_out
from softprior.statistics.points import Points, balanced, position_bins
from softprior.statistics.probe import Probe, probe
from softprior.statistics.swaps import Strata, Swaps, kernel_swaps

WIDE = 3
"""Bins of the positions of a task: with more, few tokens of one id would share a bin."""

SHARE = 0.3
"""Share of the documents held out for telling tasks apart by ids alone."""

MISSING = (
    "the store does not say which tokens its sample contains; this needs a store made by "
    "python -m jobs.activations"
)


class Lexical(Numbers):
    """Two tasks at one site on tokens of the same ids at like positions.

    Attributes:
        ids: token ids that both tasks have.
        shared: share of each task's sampled tokens that are of an id and a bin of positions that both have.
        unigram: balanced accuracy of telling tasks apart by token ids alone, in held-out documents: what
            a probe of states could learn from words. Ids that were not met count half.
        swaps: whether tokens of one id differ between the tasks.
        probe: of states, on equally many tokens of each id of both tasks; at most 1/2 if words are all there
            is. It may lie below: an id with more tokens of one task in training has fewer in the others.
        note: why numbers are None; empty if none is.
    """

    ids: int = 0
    shared: tuple[Number, Number] = (None, None)
    unigram: Number = None
    swaps: Swaps = Swaps()
    probe: Probe = Probe()
    note: str = ""


def lexical_findings(
    a: tuple[Points, Tensor | None],
    b: tuple[Points, Tensor | None],
    kernel: Float[np.ndarray, "N N"],
    seed: int,
    permutations: int,
) -> Lexical:
    """Compares two tasks within token ids.

    Args:
        a: sampled tokens of a task, and their ids.
        kernel: between all tokens, those of `a` first; nan where all vectors are equal.
    """
    (one, words_a), (other, words_b) = a, b
    if words_a is None or words_b is None:
        return Lexical(note=MISSING)
    ids = [words_a.numpy(), words_b.numpy()]
    common = np.intersect1d(ids[0], ids[1])
    documents = [own.documents.numpy() for own in (one, other)]
    unigram = unigram_accuracy(documents, ids, seed)
    strata = _strata(ids, [own.positions.numpy() for own in (one, other)])
    kept = [np.flatnonzero(np.isin(strata[i], strata[1 - i])) for i in range(2)]
    shares = (len(kept[0]) / len(ids[0]), len(kept[1]) / len(ids[1]))
    found = Lexical(ids=len(common), shared=shares, unigram=unigram)
    if not len(kept[0]):
        return found.amended(note="tasks share no token at like positions")
    if np.isnan(kernel[0, 0]):
        return found.amended(note="all vectors are equal")
    joined = np.unique(np.concatenate([own[some] for own, some in zip(strata, kept, strict=True)]))
    places = [np.searchsorted(joined, own[some]) for own, some in zip(strata, kept, strict=True)]
    first, second = (Strata(own[some], at) for own, some, at in zip(documents, kept, places, strict=True))
    among = np.concatenate([kept[0], len(ids[0]) + kept[1]])
    chosen = balanced(places, numpy_generator(seed, "lexical"))
    left, right = (own.take(some[few]) for own, some, few in zip((one, other), kept, chosen, strict=True))
    return found.amended(
        swaps=kernel_swaps(first, second, kernel[np.ix_(among, among)], seed, permutations),
        probe=probe(left, right, seed, permutations=permutations),
    )


def unigram_accuracy(
    documents: list[Int[np.ndarray, "_"]], ids: list[Int[np.ndarray, "_"]], seed: int
) -> float:
    """Balanced accuracy, in held-out documents, of the task in which a token's id is more frequent.

    Args:
        documents: of the tokens of both tasks.
        ids: of the same tokens.
    """
    generator = numpy_generator(seed, "unigram")
    held = [held_out(own, SHARE, generator) for own in documents]
    names = np.unique(np.concatenate(ids))
    counts = []
    for own, left_out in zip(ids, held, strict=True):
        number = np.bincount(np.searchsorted(names, own[~left_out]), minlength=len(names))
        counts.append(number / max(number.sum(), 1))
    shares = []
    for task, (own, left_out) in enumerate(zip(ids, held, strict=True)):
        at = np.searchsorted(names, own[left_out])
        lean = counts[task][at] - counts[1 - task][at]
        shares.append(float(((lean > 0) + 0.5 * (lean == 0)).mean()))
    return sum(shares) / 2


def _strata(
    ids: list[Int[np.ndarray, "_"]], positions: list[Int[np.ndarray, "_"]]
) -> list[Int[np.ndarray, "_"]]:
    """A number for each pair of a token id and a bin of positions."""
    bins = position_bins(positions, WIDE)
    width = 1 + max(int(own.max(initial=0)) for own in bins)
    return [own * width + at for own, at in zip(ids, bins, strict=True)]
