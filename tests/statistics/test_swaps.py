"""Swaps of pairs of documents against their literal form, and what they say about known distributions."""

import dataclasses
import itertools

import numpy as np
import pytest

from softprior.seeding import numpy_generator
from softprior.statistics.gaussian_kernel import gaussian_kernel
from softprior.statistics.points import position_bins
from softprior.statistics.swaps import Strata, Swaps, kernel_swaps, mean_swaps, pair_weights, paired

Task = tuple[np.ndarray, Strata]


def task(
    documents: int, tokens: int, *name: object, shift: float = 0.0, share: float = 0.3, strata: int = 4
) -> Task:
    """Vectors that their stratum moves far; the document's centre holds `share` of the other variance."""
    generator = numpy_generator(0, *map(str, name))
    sizes = 1 + generator.poisson(tokens - 1, documents)
    of = np.repeat(np.arange(documents), sizes)
    at = generator.integers(0, strata, len(of))
    centres = np.sqrt(share) * generator.standard_normal((documents, 6))
    vectors = centres[of] + np.sqrt(1 - share) * generator.standard_normal((len(of), 6))
    vectors[:, 0] += 3 * at
    vectors[:, 1] += shift
    return vectors, Strata(of * 7 - 3, at)


def swapped(a: Task, b: Task, seed: int = 0, permutations: int = 199, draws: int = 0) -> Swaps:
    kernel, _ = gaussian_kernel(np.concatenate([a[0], b[0]]))
    return kernel_swaps(a[1], b[1], kernel, seed, permutations, draws)


def literal_difference(a: Task, b: Task, units: np.ndarray, bandwidth: float) -> float:
    """Pair by pair and stratum by stratum: products of two different pairs' differences of kernel means."""
    half = len(a[0])

    def kernel(one: np.ndarray, other: np.ndarray) -> float:
        if not len(one) or not len(other):
            return 0.0
        squares = ((one[:, None] - other[None]) ** 2).sum(-1)
        return float(np.exp(-squares / (2 * bandwidth**2)).mean())

    cells = {}
    for unit in set(units) - {-1}:
        for stratum in range(4):
            one = a[0][(units[:half] == unit) & (a[1].strata == stratum)]
            other = b[0][(units[half:] == unit) & (b[1].strata == stratum)]
            if len(one) and len(other):
                cells[unit, stratum] = (one, other, len(one) * len(other) / (len(one) + len(other)))
    total = worth = 0.0
    for p, q in itertools.product(cells, repeat=2):
        if p[0] != q[0]:
            (a1, b1, w1), (a2, b2, w2) = cells[p], cells[q]
            total += w1 * w2 * (kernel(a1, a2) + kernel(b1, b2) - kernel(a1, b2) - kernel(b1, a2))
            worth += w1 * w2
    return total / worth


@pytest.mark.parametrize("sizes", [((5, 6), (5, 6)), ((4, 9), (11, 2)), ((13, 1), (6, 5))])
def test_the_difference_is_that_of_the_literal_form(sizes):
    a, b = task(*sizes[0], "a"), task(*sizes[1], "b", shift=1.0)
    kernel, bandwidth = gaussian_kernel(np.concatenate([a[0], b[0]]))
    found = kernel_swaps(a[1], b[1], kernel, seed=0, permutations=9, draws=0)
    units = paired(a[1], b[1])
    assert found.difference == pytest.approx(literal_difference(a, b, units, bandwidth), abs=1e-12)
    assert found.pairs == min(sizes[0][0], sizes[1][0])


def test_p_is_the_share_of_all_swaps_that_reach_the_difference():
    a, b = task(6, 4, "a"), task(6, 4, "b", shift=1.2)
    kernel, _ = gaussian_kernel(np.concatenate([a[0], b[0]]))
    units = paired(a[1], b[1])
    weights = pair_weights(a[1], b[1], units)
    values = []
    for signs in itertools.product([1, -1], repeat=6):
        own = weights * np.array([*signs, 0])[units]
        values.append(own @ kernel @ own)
    exact = np.mean(np.array(values) >= values[0] - 1e-12)
    found = kernel_swaps(a[1], b[1], kernel, seed=0, permutations=3999, draws=0)
    assert found.p == pytest.approx(exact, abs=5 * (0.25 / 4000) ** 0.5)
    assert found.p < 0.2
    # The mean of a number, one-sided: 1 for the second task.
    labels = np.repeat([0.0, 1.0], [len(a[0]), len(b[0])])
    told = mean_swaps(a[1], b[1], labels, seed=0, permutations=3999)
    assert told.difference == pytest.approx(1)
    assert told.p == pytest.approx(1 / 64, abs=5 * (1 / 64 / 4000) ** 0.5)
    assert mean_swaps(a[1], b[1], 1 - labels, seed=0, permutations=99).p > 0.9


def test_pairs_hold_every_document_of_the_fewer_and_share_strata():
    many, few = task(40, 2, "many")[1], task(6, 10, "few")[1]
    units = paired(many, few)
    half = len(many.documents)
    assert set(units) == set(range(6))
    for own, index in ((many, units[:half]), (few, units[half:])):
        for document in np.unique(own.documents):
            assert len(set(index[own.documents == document])) == 1
    assert len(set(zip(few.documents, units[half:], strict=True))) == 6
    mirrored = paired(few, many)
    assert np.array_equal(
        np.concatenate([mirrored[len(few.documents) :], mirrored[: len(few.documents)]]), units
    )
    weights = pair_weights(many, few, units)
    assert weights[:half].sum() == pytest.approx(-weights[half:].sum())
    apart = dataclasses.replace(few, strata=few.strata + 10)
    assert (paired(many, apart) == -1)[:half].all()
    assert swapped((np.zeros((half, 2)), many), (np.ones((len(few.documents), 2)), apart)).note == (
        "fewer than two pairs of documents have tokens in the same strata"
    )


def test_swaps_keep_their_level_and_find_what_one_token_a_document_does_not():
    """Both tasks have other tokens a document and other strata; the level is 10%."""
    alike = apart = 0
    for trial in range(25):
        a, b = task(24, 8, "a", trial), task(40, 4, "b", trial)
        alike += swapped(a, b, trial, 99).p <= 0.1
        apart += swapped(a, task(40, 4, "b", trial, shift=0.6), trial, 99).p <= 0.1
    # Binomial(25, 0.1) is above 7 with probability 0.2%.
    assert alike <= 7
    assert apart >= 19


def test_strata_are_no_difference():
    """One task has few tokens in the first two strata, which move the states more than anything else."""
    reached = blind = 0
    for trial in range(12):
        a, (vectors, where) = task(16, 6, "early", trial), task(16, 6, "late", trial)
        kept = np.flatnonzero((where.strata > 1) | (numpy_generator(trial).random(len(vectors)) < 0.3))
        late = (vectors[kept], where.take(kept))
        reached += swapped(a, late, trial, 99).p <= 0.1
        a, late = ((x, dataclasses.replace(at, strata=0 * at.strata)) for x, at in (a, late))
        blind += swapped(a, late, trial, 99).p <= 0.1
    # Binomial(12, 0.1) is above 4 with probability 0.4%.
    assert reached <= 4
    assert blind >= 8


def test_the_spread_over_halves_of_the_tokens_is_shown():
    """What one token a document decides by chance hardly depends on which half is kept."""
    found = swapped(task(40, 12, "a"), task(50, 10, "b", shift=0.7), permutations=499, draws=10)
    assert found.p_low <= found.p_high <= 0.01
    assert found.p <= 0.005
    alike = swapped(task(40, 12, "a"), task(50, 10, "b"), permutations=499, draws=10)
    assert 0.05 < alike.p_low < alike.p_high
    single = swapped(task(9, 1, "one"), task(9, 1, "two"), permutations=99, draws=2)
    assert single.p_low <= single.p_high


def test_equal_tokens_are_no_difference_and_the_order_is_of_no_consequence():
    strata = Strata(np.arange(12) // 2, np.arange(12) % 2)
    equal = kernel_swaps(strata, strata, np.ones((24, 24)), 0, 99, 0)
    assert (equal.difference, equal.p) == (0, 1)
    a, b = task(9, 4, "a"), task(12, 4, "b", shift=0.5)
    order = numpy_generator(0).permutation(len(a[0]))
    mixed = (a[0][order], a[1].take(order))
    one, other = swapped(a, b), swapped(mixed, b)
    assert other.difference == pytest.approx(one.difference, rel=1e-9)
    assert other.p == one.p
    few = swapped(task(1, 9, "one"), b)
    assert few.p is None
    assert few.note == "pairs need two documents of each task, but there are 1 and 12"


def test_bins_of_positions_are_strata():
    bins = position_bins([np.arange(60), np.arange(30, 200)])
    assert len(bins[0]) == 60
    assert not set(bins[0][:20]) & set(bins[1])
