"""Splits and resamples move whole documents."""

import math

import numpy as np
import pytest

from softprior.seeding import numpy_generator
from softprior.statistics.documents import held_out, interval, one_of_each, resampled


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


def test_intervals_leave_out_nans():
    assert interval(np.array([*range(101), math.nan], dtype=float)) == pytest.approx((2.5, 97.5))
    assert all(map(math.isnan, interval(np.array([math.nan]))))
