"""Whether the tokens of two tasks differ within strata, by documents: pairs of documents swap sides.

The strata (bins of positions, token ids) are what the tasks may differ in without being told apart by it.
Each document of the task with fewer is set beside one or more of the other task's, chosen by how many tokens
they have in the same strata and by nothing else. A pair's difference compares tokens of one stratum alone, so
that strata cancel out, and takes in all tokens of its documents, so that no draw decides which of them count.
If tokens of a stratum have one distribution in both tasks, a pair's difference is as likely as its opposite,
whatever the tokens of one document have in common.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from softprior.results.numbers import Number, Numbers
from softprior.seeding import numpy_generator
from softprior.statistics.gaussian_kernel import by_document

DRAWS = 10
"""Number of draws of half of each document's tokens, which show how much p depends on the tokens kept."""

ROUNDING = 1e-12
"""Rounding relative to the largest possible sum: equal sums in another order differ by less."""


Test = Callable[
    [Int[np.ndarray, "N"], Float[np.ndarray, "N"], np.random.Generator],
    tuple[float, float],
]
"""Maps the pair and the weight of each token to the difference and its p."""


@dataclass(frozen=True)
class Strata:
    """The documents and strata of the tokens of one task.

    Attributes:
        documents: the document of each token, any integers.
        strata: the stratum of each token, from 0, numbered alike in both tasks.
    """

    documents: Int[np.ndarray, "N"]
    strata: Int[np.ndarray, "N"]

    def take(self, indices: Int[np.ndarray, "M"]) -> Strata:
        """Some of the tokens."""
        return Strata(self.documents[indices], self.strata[indices])


class Swaps(Numbers):
    """The result of swapping pairs of documents.

    Attributes:
        pairs: of documents, or of one and several of the other task's.
        tokens: of each task that are in a stratum that their pair shares.
        difference: of kernel means within strata, squared: MMD^2 if the tasks had equally many tokens in each
            stratum. Unbiased (products of different pairs alone), so it may be negative; of scalars
            the difference of means itself.
        p: share of swaps (the observed one included) that reach the difference. Over all swaps it would be at
            least 2^(1 - pairs), of a one-sided test 2^(-pairs); over drawn ones it may be a little lower.
        p_low: the lowest p in `DRAWS` draws of half of each document's tokens, rounded up.
        p_high: the highest.
        note: why numbers are None; empty if none is.
    """

    pairs: int = 0
    tokens: tuple[int, int] = (0, 0)
    difference: Number = None
    p: Number = None
    p_low: Number = None
    p_high: Number = None
    note: str = ""


def kernel_swaps(
    a: Strata, b: Strata, kernel: Float[np.ndarray, "N N"], seed: int, permutations: int, draws: int = DRAWS
) -> Swaps:
    """The test of any difference between distributions.

    Args:
        kernel: between all tokens, those of `a` first.
        permutations: swaps of all pairs; p is at least 1 / (permutations + 1).
        draws: of half of the tokens, for the spread of p.
    """

    def tested(
        units: Int[np.ndarray, "N"], weights: Float[np.ndarray, "N"], generator: np.random.Generator
    ) -> tuple[float, float]:
        used = np.flatnonzero(weights)
        own = weights[used]
        _, index = np.unique(units[used], return_inverse=True)
        products = by_document(kernel[np.ix_(used, used)] * own * own[:, None], index)
        signs = _signs(len(products), permutations, generator)
        values = ((products @ signs) * signs).sum(0)
        sides = np.bincount(index, np.maximum(own, 0))
        p = _reached(values, ROUNDING * sides.sum() ** 2)
        return float(values[0] - products.trace()) / float(sides.sum() ** 2 - (sides**2).sum()), p

    return _with_draws(a, b, tested, seed, draws)


def mean_swaps(a: Strata, b: Strata, values: Float[np.ndarray, "N"], seed: int, permutations: int) -> Swaps:
    """The test that a number is no larger in `b` than in `a`; one-sided.

    Args:
        values: of all tokens, those of `a` first.
        permutations: as of `kernel_swaps`.
    """

    def tested(
        units: Int[np.ndarray, "N"], weights: Float[np.ndarray, "N"], generator: np.random.Generator
    ) -> tuple[float, float]:
        used = np.flatnonzero(weights)
        own = weights[used]
        _, index = np.unique(units[used], return_inverse=True)
        differences = -np.bincount(index, own * values[used])
        sums = differences @ _signs(len(differences), permutations, generator)
        whole = float(np.maximum(own, 0).sum())
        return float(sums[0]) / whole, _reached(sums, ROUNDING * whole * float(np.abs(values).max()))

    return _with_draws(a, b, tested, seed, DRAWS)


def _with_draws(a: Strata, b: Strata, tested: Test, seed: int, draws: int) -> Swaps:
    documents = tuple(len(np.unique(own.documents)) for own in (a, b))
    if min(documents) < 2:
        return Swaps(
            note=f"pairs need two documents of each task, but there are {documents[0]} and {documents[1]}"
        )
    units = paired(a, b)
    weights = pair_weights(a, b, units)
    count, half = len(np.unique(units[weights != 0])), len(a.documents)
    if count < 2:
        return Swaps(pairs=count, note="fewer than two pairs of documents have tokens in the same strata")
    used = (int(np.count_nonzero(weights[:half])), int(np.count_nonzero(weights[half:])))
    difference, p = tested(units, weights, numpy_generator(seed, "swaps"))
    drawn = []
    for number in range(draws):
        generator = numpy_generator(seed, "swaps", number)
        own = [_half(side.documents, generator) for side in (a, b)]
        kept = np.concatenate([own[0], own[1] + half])
        some = np.zeros(len(units))
        some[kept] = pair_weights(a.take(own[0]), b.take(own[1]), units[kept])
        if len(np.unique(units[some != 0])) > 1:
            drawn.append(tested(units, some, generator)[1])
    return Swaps(
        pairs=count,
        tokens=used,
        difference=difference,
        p=p,
        p_low=min(drawn, default=p),
        p_high=max(drawn, default=p),
    )


def paired(a: Strata, b: Strata) -> Int[np.ndarray, "N"]:
    """The pair of each token, those of `a` first; -1 where its document shares no stratum with any.

    Each document of the task with fewer gets the one that maximises what all pairs share (an assignment).
    Those that are left, longest first, join the pair that gains most.
    """
    count = 1 + max(int(own.strata.max()) for own in (a, b))
    (names_a, table_a), (names_b, table_b) = (_table(own, count) for own in (a, b))
    swapped = len(table_a) > len(table_b)
    few, many = (table_b, table_a) if swapped else (table_a, table_b)
    shared = np.zeros((len(few), len(many)))
    for stratum in range(count):
        rows, columns = np.flatnonzero(few[:, stratum]), np.flatnonzero(many[:, stratum])
        shared[np.ix_(rows, columns)] += _shared(few[rows, stratum][:, None], many[columns, stratum])
    rows, columns = linear_sum_assignment(shared, maximize=True)
    own = shared[rows, columns] > 0
    pair = np.full(len(many), -1)
    pair[columns[own]] = rows[own]
    together = np.zeros_like(few)
    np.add.at(together, pair[pair >= 0], many[pair >= 0])
    left = np.flatnonzero(pair < 0)
    for document in left[np.argsort(-many[left].sum(1), kind="stable")]:
        # Strata that the document has no token in stay as they are.
        at = np.flatnonzero(many[document])
        gain = (
            _shared(few[:, at], together[:, at] + many[document, at]) - _shared(few[:, at], together[:, at])
        ).sum(1)
        best = int(gain.argmax())
        if gain[best] > 0:
            pair[document] = best
            together[best] += many[document]
    alone = np.arange(len(few))
    of_a, of_b = (pair, alone) if swapped else (alone, pair)
    return np.concatenate([of_a[names_a], of_b[names_b]])


def pair_weights(a: Strata, b: Strata, units: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Weights with which tokens add up to their pair's difference, positive for `a` and negative for `b`.

    In a stratum in which a pair has n tokens of one task and m of the other the means are weighted by
    n m / (n + m), which is the inverse of their difference's variance where tokens are independent.
    """
    half = len(a.documents)
    strata = np.concatenate([a.strata, b.strata])
    cells, index = np.unique(np.stack([units, strata], 1), axis=0, return_inverse=True)
    index = index.reshape(-1)
    counts = [np.bincount(own, minlength=len(cells)).astype(float) for own in (index[:half], index[half:])]
    worth = np.where(cells[:, 0] < 0, 0.0, _shared(*counts))
    one, other = (worth / np.maximum(own, 1) for own in counts)
    return np.concatenate([one[index[:half]], -other[index[half:]]])


def _shared(one: Float[np.ndarray, "..."], other: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """n m / (n + m), zero where both are."""
    found: np.ndarray = one * other / np.maximum(one + other, 1)
    return found


def _table(own: Strata, count: int) -> tuple[Int[np.ndarray, "N"], Float[np.ndarray, "G B"]]:
    """The document of each token, from 0, and how many tokens each has in each stratum."""
    names, index = np.unique(own.documents, return_inverse=True)
    table = np.zeros((len(names), count))
    np.add.at(table, (index, own.strata), 1)
    return index, table


def _signs(count: int, permutations: int, generator: np.random.Generator) -> Float[np.ndarray, "P R"]:
    """Which pairs are swapped: none at first, then any."""
    signs = generator.choice([-1.0, 1.0], size=(count, 1 + permutations))
    signs[:, 0] = 1
    return signs


def _reached(values: Float[np.ndarray, "R"], rounding: float) -> float:
    return float((values >= values[0] - rounding).mean())


def _half(documents: Int[np.ndarray, "N"], generator: np.random.Generator) -> Int[np.ndarray, "M"]:
    """Indices of a random half of each document's tokens, rounded up."""
    order = generator.permutation(len(documents))
    _, index, counts = np.unique(documents[order], return_inverse=True, return_counts=True)
    by_name = np.argsort(index, kind="stable")
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(documents), dtype=np.int64)
    rank[by_name] = np.arange(len(documents)) - starts[index[by_name]]
    chosen: Int[np.ndarray, "M"] = np.sort(order[rank < (counts[index] + 1) // 2])
    return chosen
