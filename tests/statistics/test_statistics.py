"""Moments that merge, shrinkage, and the Gaussian, against numpy, scikit-learn and scipy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.covariance import OAS, EmpiricalCovariance, ShrunkCovariance

from softprior.errors import UserError
from softprior.seeding import torch_generator
from softprior.statistics import moments as module
from softprior.statistics.gaussian import Gaussian, fit_gaussian
from softprior.statistics.moments import Moments, oas_shrinkage, shrunk


def sample(count: int, dimension: int, offset: float = 0.0, name: str = "sample") -> torch.Tensor:
    """Correlated vectors, float32."""
    generator = torch_generator(0, name, count, dimension)
    mixing = torch.eye(dimension) + 0.3 * torch.randn(dimension, dimension, generator=generator)
    return torch.randn(count, dimension, generator=generator) @ mixing + offset


def agree(found: Moments, vectors: torch.Tensor, tolerance: float) -> None:
    exact = vectors.double().numpy()
    assert found.count == len(exact)
    np.testing.assert_allclose(found.mean, exact.mean(0), rtol=tolerance, atol=tolerance)
    expected = np.cov(exact.T, bias=True).reshape(exact.shape[1], -1)
    np.testing.assert_allclose(found.covariance(), expected, rtol=0, atol=tolerance * abs(expected).max())


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("count", [1, 2, module.ROWS, module.ROWS + 1, 2 * module.ROWS + 7])
def test_moments_equal_numpys_even_far_from_the_origin(count, offset):
    vectors = sample(count, 3, offset)
    # Float64 around each block's own mean; sums of squares at 1e3 would lose six digits more.
    agree(Moments.empty(3).update(vectors), vectors, 1e-12)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 1e3]),
)
def test_moments_merge_in_any_split_order_and_tree(sizes, random, offset):
    sizes.append(2)
    vectors = sample(sum(sizes), 4, offset)
    parts = [Moments.empty(4).update(part) for part in vectors.split(sizes)]
    random.shuffle(parts)
    while len(parts) > 1:
        i = random.randrange(len(parts) - 1)
        parts[i : i + 2] = [parts[i].merge(parts[i + 1])]
    # Merging means at 1e3 rounds by 1e-13 of them, which is 1e-13 * 1e3 of a spread of 1.
    agree(parts[0], vectors, 1e-10)


def test_empty_moments_change_nothing():
    full = Moments.empty(3).update(sample(10, 3))
    assert full.merge(Moments.empty(3)) is full
    assert Moments.empty(3).merge(full) is full
    assert Moments.empty(3).update(torch.empty(0, 3)).count == 0
    assert Moments.empty(3).merge(Moments.empty(3)).count == 0


def test_updates_and_merges_leave_their_arguments_alone():
    one, two = Moments.empty(3).update(sample(10, 3)), Moments.empty(3).update(sample(5, 3))
    before = one.mean.clone(), one.scatter.clone()
    one.merge(two)
    one.update(sample(4, 3))
    assert torch.equal(one.mean, before[0])
    assert torch.equal(one.scatter, before[1])


@pytest.mark.parametrize(("count", "dimension"), [(5, 8), (12, 3), (200, 16), (2000, 4), (2, 2)])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_oas_from_moments_equals_scikit_learns(count, dimension, offset):
    vectors = sample(count, dimension, offset)
    expected = OAS().fit(vectors.double().numpy())
    moments = Moments.empty(dimension).update(vectors)
    weight = oas_shrinkage(moments.covariance(), count)
    assert weight == pytest.approx(expected.shrinkage_, abs=1e-10)
    used = shrunk(moments.covariance(), weight)
    np.testing.assert_allclose(used, expected.covariance_, rtol=0, atol=1e-10 * float(used.abs().max()))


def test_shrinkage_stays_between_nothing_and_everything():
    assert oas_shrinkage(torch.eye(5, dtype=torch.float64), 10) == 1.0
    assert oas_shrinkage(torch.zeros(5, 5, dtype=torch.float64), 10) == 1.0
    one_direction = torch.zeros(50, 50, dtype=torch.float64)
    one_direction[0, 0] = 1
    assert 0 < oas_shrinkage(one_direction, 10**6) < 1e-5


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_a_fixed_shrinkage_equals_scikit_learns(weight):
    vectors = sample(50, 6)
    expected = ShrunkCovariance(shrinkage=weight).fit(vectors.double().numpy()).covariance_
    np.testing.assert_allclose(
        shrunk(Moments.empty(6).update(vectors).covariance(), weight), expected, rtol=1e-10
    )


@pytest.mark.parametrize("dimension", [1, 2, 7])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_the_gaussian_equals_scipys(dimension, offset):
    vectors = sample(100, dimension, offset)
    fit = fit_gaussian(Moments.empty(dimension).update(vectors), shrinkage=0.0)
    exact = vectors.double().numpy()
    plain = EmpiricalCovariance().fit(exact)
    distribution = multivariate_normal(plain.location_, plain.covariance_)
    # At 1e3 the covariances of both sides differ by 1e-12, and a radius squared by 1e-10 of itself.
    np.testing.assert_allclose(fit.gaussian.log_prob(vectors), distribution.logpdf(exact), rtol=1e-9)
    np.testing.assert_allclose(
        fit.gaussian.radius(vectors) ** 2, plain.mahalanobis(exact), rtol=1e-9, atol=1e-9
    )
    assert fit.gaussian.log_prob(vectors).dtype == torch.float64


def test_samples_of_the_gaussian_have_its_moments():
    fit = fit_gaussian(Moments.empty(3).update(sample(50, 3, 2.0)), shrinkage=0.0)
    drawn = fit.gaussian.sample(torch_generator(1), 40_000).numpy()
    covariance = (fit.gaussian.factor @ fit.gaussian.factor.T).numpy()
    # Five standard errors, of the largest scale: 1 / sqrt(n) for means, at most sqrt(2 / n) for covariances.
    scale = float(covariance.diagonal().max())
    np.testing.assert_allclose(drawn.mean(0), fit.gaussian.mean, rtol=0, atol=5 * (scale / 40_000) ** 0.5)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, rtol=0, atol=5 * scale * (2 / 40_000) ** 0.5)


def test_facts_of_a_fit():
    vectors = sample(50, 4)
    fit = fit_gaussian(Moments.empty(4).update(vectors), shrinkage=0.1, jitter=0.5)
    used = (fit.gaussian.factor @ fit.gaussian.factor.T).numpy()
    assert fit.record() == {
        "tokens": 50,
        "shrinkage": 0.1,
        "jitter": 0.5,
        "condition": pytest.approx(np.linalg.cond(used), rel=1e-9),
    }


def test_a_singular_covariance_is_refused():
    dependent = sample(30, 4)
    dependent[:, 3] = dependent[:, 2] * 2
    for vectors in (dependent, dependent[:1].repeat(30, 1), sample(4, 4)):
        moments = Moments.empty(4).update(vectors)
        sentence = rf"covariance of {len(vectors)} vectors of 4 dimensions is singular .* or jitter$"
        with pytest.raises(UserError, match=sentence):
            fit_gaussian(moments, shrinkage=0.0)
        fit_gaussian(moments, shrinkage=0.0, jitter=1e-6)


def test_radii_grow_along_rays():
    gaussian = Gaussian(torch.ones(2, dtype=torch.float64), torch.tensor([[2.0, 0.0], [0.0, 0.5]]).double())
    points = torch.tensor([[1.0, 1.0], [3.0, 1.0], [5.0, 1.0], [1.0, 1.5]])
    assert gaussian.radius(points).tolist() == pytest.approx([0, 1, 2, 1])
