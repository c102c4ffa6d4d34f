"""Held-out likelihood and radii against scipy, and what they say about data of a known distribution."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi, kstest, multivariate_normal

from softprior.seeding import numpy_generator, torch_generator
from softprior.statistics.documents import bootstrap, held_out
from softprior.statistics.fit_quality import fit_quality, held_out_fit
from softprior.statistics.gaussian import fit_gaussian
from softprior.statistics.moments import Moments


def draws(count: int, name: str = "draws", dimension: int = 8) -> torch.Tensor:
    generator = torch_generator(0, name, count)
    mixing = torch.eye(dimension) + 0.3 * torch.randn(dimension, dimension, generator=torch_generator(1))
    return 5 + torch.randn(count, dimension, generator=generator) @ mixing


def heavy(count: int, name: str = "heavy") -> torch.Tensor:
    """Draws stretched by factors of their own."""
    factors = torch.exp(0.6 * torch.randn(count, 1, generator=torch_generator(2, name)))
    return 5 + (draws(count, name) - 5) * factors


def documents(count: int) -> torch.Tensor:
    return torch.from_numpy(numpy_generator(0, "documents").integers(0, count // 10, count))


def test_every_number_equals_scipys():
    training, testing = draws(400), heavy(300)
    fit = fit_gaussian(Moments.empty(8).update(training))
    found = fit_quality(fit, testing, documents(300), seed=0)
    covariance = (fit.gaussian.factor @ fit.gaussian.factor.T).numpy()
    distribution = multivariate_normal(fit.gaussian.mean.numpy(), covariance)
    exact = testing.double().numpy()
    assert found.log_likelihood == pytest.approx(distribution.logpdf(exact).mean() / 8, rel=1e-10)
    assert found.own == pytest.approx(-distribution.entropy() / 8, rel=1e-10)
    centred = exact - distribution.mean
    radii = np.sqrt(np.einsum("nd,nd->n", centred @ np.linalg.inv(covariance), centred))
    assert found.ks == pytest.approx(kstest(radii, chi(8).cdf).statistic, abs=1e-10)
    assert found.radii == pytest.approx(np.quantile(radii, [0.05, 0.5, 0.95]), rel=1e-10)
    assert found.chi_radii == pytest.approx(chi(8).ppf([0.05, 0.5, 0.95]))
    assert (found.tokens, found.documents) == (300, 30)
    assert found.low < found.log_likelihood < found.high < found.own


def test_its_own_draws_have_its_own_likelihood():
    fit = fit_gaussian(Moments.empty(8).update(draws(400)))
    own = fit.gaussian.sample(torch_generator(7), 20_000)
    found = fit_quality(fit, own, torch.arange(20_000), seed=0, resamples=50)
    # Standard error: sqrt(2 D) / (2 D sqrt(n)) = 0.0018; the Kolmogorov 1% point is 1.63 / sqrt(n).
    assert found.log_likelihood == pytest.approx(found.own, abs=0.008)
    assert found.ks < 1.63 / math.sqrt(20_000)
    assert found.radii == pytest.approx(found.chi_radii, rel=0.02)


def test_the_interval_is_over_documents():
    """Documents stretched as a whole: their mean is known less well than that of as many single tokens."""
    numbers = torch.arange(30).repeat_interleave(10)
    factors = torch.exp(0.6 * torch.randn(30, 1, generator=torch_generator(3)))[numbers]
    vectors = 5 + (draws(300) - 5) * factors
    fit = fit_gaussian(Moments.empty(8).update(draws(400, "fit")))
    found, single = (fit_quality(fit, vectors, some, seed=0) for some in (numbers, torch.arange(300)))
    assert found.log_likelihood == single.log_likelihood
    assert found.high - found.low > 1.5 * (single.high - single.low)
    few = fit_quality(fit, vectors, torch.arange(300) // 100, seed=0)
    assert few.low is None
    own = fit.gaussian.log_prob(vectors).numpy().reshape(30, 10) / 8
    literal = bootstrap(
        lambda weights: own.sum(1) @ weights / (10 * weights.sum(0)),
        np.zeros(30, np.int64),
        numpy_generator(0, "fit quality"),
    )
    assert (found.low, found.high) == pytest.approx(literal)


def test_the_held_out_documents_take_no_part_in_the_fit():
    vectors, numbers = heavy(600), documents(600)
    found = held_out_fit(vectors, numbers, seed=4, calibrate=False)
    held = torch.from_numpy(held_out(numbers.numpy(), 0.25, numpy_generator(4, "held-out fit")))
    fit = fit_gaussian(Moments.empty(8).update(vectors[~held]))
    assert (found.fit_tokens, found.shrinkage, found.condition) == (fit.count, fit.shrinkage, fit.condition)
    assert found.data == fit_quality(fit, vectors[held], numbers[held], seed=4)
    assert (found.fit_documents, found.data.documents) == (45, 15)
    assert found.gaussian is None
    assert found.note == ""


def test_gaussian_data_look_gaussian_and_heavy_ones_do_not():
    plain, stretched = (held_out_fit(some(4000), documents(4000), seed=0) for some in (draws, heavy))
    assert plain.data.ks < 0.06
    assert stretched.data.ks > 0.2
    # Gaussian data with the stretched ones' covariance.
    assert stretched.gaussian.ks < 0.06
    low, _, high = stretched.data.radii
    assert high - low > 1.4 * (stretched.gaussian.radii[2] - stretched.gaussian.radii[0])
    # The mean log-likelihood sees covariances only.
    for found in (plain, stretched):
        assert found.data.log_likelihood == pytest.approx(found.data.own, abs=0.05)


def test_with_few_vectors_a_dimension_gaussian_data_are_the_measure():
    """Shrinkage takes truly Gaussian data far from chi, and the calibration says so."""
    for count, decades in ((200, 1.0), (400, 0.5), (400, 1.0)):
        scales = 10 ** torch.linspace(decades, -decades, 150)
        vectors = torch.randn(count, 150, generator=torch_generator(0)) * scales
        found = held_out_fit(vectors, torch.arange(count), seed=0)
        assert found.data.ks > 0.3
        assert found.data.log_likelihood > found.data.own + 0.04
        assert found.gaussian.ks == pytest.approx(found.data.ks, abs=0.25)
        assert found.gaussian.radii == pytest.approx(found.data.radii, rel=0.08)
        assert found.gaussian.own - found.gaussian.log_likelihood == pytest.approx(
            found.data.own - found.data.log_likelihood, abs=0.04
        )
        assert found == held_out_fit(vectors, torch.arange(count), seed=0)


def test_what_cannot_be_fitted_is_said():
    few = held_out_fit(draws(30), torch.arange(30) % 3, seed=0)
    assert few.note == "a split by document needs 4 documents, but there are 3"
    equal = held_out_fit(torch.ones(40, 3), torch.arange(40), seed=0)
    assert equal.note.startswith("the covariance of 30 vectors of 3 dimensions is singular")
    for found in (few, equal):
        assert found.data is None
        assert found.shrinkage is None
