"""The spectrum against scikit-learn's PCA, numpy, and the same number from vectors."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from softprior.errors import UserError
from softprior.seeding import torch_generator
from softprior.statistics import geometry
from softprior.statistics.moments import Moments
from softprior.statistics.spectrum import participation_of, principal_components


def sample(count: int, dimension: int, offset: float = 0.0) -> torch.Tensor:
    generator = torch_generator(0, "spectrum", count, dimension)
    mixing = torch.randn(dimension, dimension, generator=generator)
    return torch.randn(count, dimension, generator=generator) @ mixing + offset


def moments(vectors: torch.Tensor) -> Moments:
    return Moments.empty(vectors.shape[1]).update(vectors)


@pytest.mark.parametrize(("count", "dimension"), [(200, 6), (40, 40), (10, 25)])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_components_equal_scikit_learns(count, dimension, offset):
    vectors = sample(count, dimension, offset)
    pca = PCA(n_components=5, svd_solver="full").fit(vectors.double().numpy())
    found = principal_components(moments(vectors), 5)
    # Eigenvectors of the covariance against singular ones of the data: 1e-16 over gaps of a few per cent.
    np.testing.assert_allclose(found.directions, pca.components_, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.shares, pca.explained_variance_ratio_, rtol=1e-8)


def test_all_components_are_orthonormal_and_hold_all_variance():
    found = principal_components(moments(sample(8, 12)), 12)
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(12), atol=1e-12)
    assert float(found.shares.sum()) == pytest.approx(1, abs=1e-12)
    assert (found.shares >= 0).all()
    assert (found.shares[:-1] >= found.shares[1:]).all()


def test_the_sign_does_not_depend_on_the_order_of_vectors():
    vectors = sample(50, 7)
    one, two = (principal_components(moments(v), 3).directions for v in (vectors, vectors.flip(0)))
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-8)
    np.testing.assert_allclose(principal_components(moments(-vectors), 3).directions, one, rtol=0, atol=1e-8)
    assert (one.gather(1, one.abs().argmax(1, keepdim=True)) > 0).all()


@pytest.mark.parametrize("count", [0, 4])
def test_more_components_than_dimensions_are_refused(count):
    with pytest.raises(UserError, match=rf"3 dimensions have 1 to 3 principal components, got {count}; ask"):
        principal_components(moments(sample(9, 3)), count)


def test_the_participation_ratio_equals_that_of_the_vectors():
    vectors = sample(60, 9, 1e3)
    covariance = moments(vectors).covariance()
    values = np.linalg.eigvalsh(covariance.numpy())
    assert participation_of(covariance) == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-12)
    assert participation_of(covariance) == pytest.approx(geometry.participation_ratio(vectors), rel=1e-9)


def test_participation_runs_from_one_direction_to_all():
    assert participation_of(torch.eye(6)) == 6
    one = torch.zeros(6, 6)
    one[2, 2] = 1e-3
    assert participation_of(one) == pytest.approx(1, abs=1e-12)
    assert math.isnan(participation_of(torch.zeros(6, 6)))
