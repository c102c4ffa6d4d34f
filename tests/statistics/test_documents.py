"""Splits and resamples move whole documents."""

import math

import numpy as np
import pytest
from scipy import stats

from softprior.seeding import numpy_generator
from softprior.statistics.documents import (
    CELLS,
    bca,
    bootstrap,
    expanded_level,
    held_out,
    mean_interval,
    one_of_each,
    resampled,
)


@pytest.mark.parametrize(("documents", "share", "expected"), [(40, 0.25, 10), (11, 0.3, 3), (5, 0.1, 2)])
def test_whole_documents_are_held_out(documents, share, expected):
    tokens = numpy_generator(0, "tokens").integers(0, documents, 2000) * 7 - 3
    held = held_out(tokens, share, numpy_generator(1))
    assert len(np.unique(tokens[held])) == expected
    assert not set(tokens[held]) & set(tokens[~held])
    assert np.array_equal(held, held_out(tokens, share, numpy_generator(1)))
    assert not np.array_equal(held, held_out(tokens, share, numpy_generator(2)))


def test_one_token_of_each_document_is_drawn_evenly():
    documents = np.array([7, -2, 7, 5, 7])
    chosen = np.stack([one_of_each(documents, numpy_generator(0, i)) for i in range(900)])
    assert all(sorted(documents[own]) == [-2, 5, 7] and list(own) == sorted(own) for own in chosen)
    # Five standard errors of a third.
    for token in (0, 2, 4):
        assert (chosen == token).any(1).mean() == pytest.approx(1 / 3, abs=5 * math.sqrt(2 / 9 / 900))


def test_resamples_are_draws_with_replacement():
    weights = resampled(50, 4000, numpy_generator(0))
    assert weights.shape == (50, 4000)
    assert (weights.sum(0) == 50).all()
    # Counts are nearly Poisson(1): five standard errors.
    assert weights.mean(1) == pytest.approx(1, abs=5 / math.sqrt(4000))
    assert (weights == 0).mean() == pytest.approx((1 - 1 / 50) ** 50, abs=0.01)


def test_bca_is_scipys_on_the_same_resamples():
    one, other = (numpy_generator(0, name).exponential(size=n) for name, n in (("a", 9), ("b", 14)))
    drawn = (
        one @ resampled(9, 999, numpy_generator(1)) / 9 - other @ resampled(14, 999, numpy_generator(2)) / 14
    )
    without = [
        (one.sum() - one) / 8 - other.mean(),
        one.mean() - (other.sum() - other) / 13,
    ]
    found = bca(one.mean() - other.mean(), drawn, without, expanded=False)

    class Drawn:
        bootstrap_distribution = drawn

    wanted = stats.bootstrap(
        (one, other),
        lambda x, y, axis=-1: x.mean(axis) - y.mean(axis),
        n_resamples=0,
        method="BCa",
        bootstrap_result=Drawn(),
    ).confidence_interval
    assert found == pytest.approx((wanted.low, wanted.high), rel=1e-9)
    low, high = bca(one.mean() - other.mean(), drawn, without)
    assert low < found[0] < found[1] < high


def test_a_bootstrap_resamples_each_group_on_its_own():
    values = numpy_generator(0, "values").normal(size=20)
    groups = np.arange(20) // 12

    def difference(weights: np.ndarray) -> np.ndarray:
        sums = np.stack([weights[groups == g].sum(0) for g in (0, 1)])
        if weights.shape[1] > 1:  # the sample, 500 resamples, and all but one
            assert (sums[:, :501] == [[12], [8]]).all()
            assert (sums[:, 501:].sum(0) == 19).all()
        return (values * (1 - 2 * groups)) @ (weights / sums[groups])

    low, high = bootstrap(difference, groups, numpy_generator(1), 500)
    observed = values[groups == 0].mean() - values[groups == 1].mean()
    assert low < observed < high
    assert all(map(math.isnan, bootstrap(difference, np.arange(20) // 17, numpy_generator(1), 500)))


def test_a_bootstrap_of_many_documents_goes_in_parts():
    count, resamples = 6000, 50
    values = numpy_generator(0, "values").exponential(size=count)
    shapes = []

    def mean(weights: np.ndarray) -> np.ndarray:
        shapes.append(weights.shape)
        return values @ weights / weights.sum(0)

    found = bootstrap(mean, np.zeros(count, np.int64), numpy_generator(1), resamples)
    assert [rows * columns <= CELLS for rows, columns in shapes] == [True] * 3
    assert sum(columns for _, columns in shapes) == 1 + resamples + count
    drawn = values @ resampled(count, resamples, numpy_generator(1)) / count
    without = (values.sum() - values) / (count - 1)
    assert found == pytest.approx(bca(values.mean(), drawn, [without]), rel=1e-9)


def test_the_expanded_level_is_that_of_t():
    """A resample's standard deviation is sqrt((n - 1) / n) of the sample's."""
    for count in (4, 6, 48):
        assert stats.norm.ppf(1 - expanded_level(count)) * math.sqrt((count - 1) / count) == pytest.approx(
            stats.t.ppf(0.975, count - 1)
        )


def test_intervals_of_a_mean_cover_with_six_documents_too():
    """Percentile intervals of the same means hold the true one in 85%."""
    values = numpy_generator(0, "means").normal(size=(400, 6))
    held, percentile = 0, 0
    for trial, own in enumerate(values):
        low, high = mean_interval(own, numpy_generator(trial), 400)
        held += low <= 0 <= high
        means = own @ resampled(6, 400, numpy_generator(trial)) / 6
        low, high = np.quantile(means, [0.025, 0.975])
        percentile += low <= 0 <= high
    # Four standard errors of 400 trials are 0.044.
    assert 0.906 < held / 400 < 0.985
    assert percentile / 400 < 0.906


def test_the_interval_of_a_mean_is_the_literal_one():
    values = numpy_generator(0, "few").exponential(size=7)
    counts = resampled(7, 300, numpy_generator(3))
    ratios = []
    for own in counts.T.astype(int):
        drawn = np.repeat(values, own)
        if drawn.std() > 0:
            # The resample's own error, with the sample's divisor.
            ratios.append((drawn.mean() - values.mean()) / (drawn.std(ddof=1) / math.sqrt(7)))
    error = values.std(ddof=1) / math.sqrt(7)
    wanted = (
        values.mean() - np.quantile(ratios, 0.975) * error,
        values.mean() - np.quantile(ratios, 0.025) * error,
    )
    assert mean_interval(values, numpy_generator(3), 300) == pytest.approx(wanted)
    assert all(map(math.isnan, mean_interval(np.full(5, 0.1), numpy_generator(0)))), "no spread is known"
    assert all(map(math.isnan, mean_interval(values[:3], numpy_generator(0))))
