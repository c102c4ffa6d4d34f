"""Radii as quantiles of the data's own: a share, growing outwards, and the same in any coordinates."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import EmpiricalCovariance

from softprior.seeding import torch_generator
from softprior.statistics.gaussian import fit_gaussian
from softprior.statistics.moments import Moments
from softprior.statistics.reference import Reference

sizes = st.tuples(st.integers(20, 120), st.integers(1, 8), st.integers(0, 2**32))


def drawn(size: tuple[int, int, int], name: str = "data") -> torch.Tensor:
    """Vectors off the origin with heavy tails, as those of tokens are; float64, for exact maps of them."""
    count, hidden, seed = size
    generator = torch_generator(seed, name)
    mixing = torch.eye(hidden) + 0.3 * torch.randn(hidden, hidden, generator=generator)
    lengths = torch.randn(count, 1, generator=generator).exp()
    return (lengths * torch.randn(count, hidden, generator=generator) @ mixing + 2).double()


def reference(data: torch.Tensor, shrinkage: float | None = 0.0) -> Reference:
    gaussian = fit_gaussian(Moments.empty(data.shape[1]).update(data), shrinkage).gaussian
    return Reference(gaussian, gaussian.radius(data))


@given(sizes, st.floats(0, 1e6))
def test_a_quantile_is_a_share(size, scale):
    found = reference(drawn(size), None).quantiles(drawn(size, "others") * scale)
    assert found.dtype == torch.float64
    assert bool(((found >= 0) & (found <= 1)).all())
    torch.testing.assert_close((found * size[0]).round(), found * size[0], rtol=0, atol=1e-9)


@given(sizes)
def test_quantiles_grow_along_rays_from_none_to_all(size):
    data = drawn(size)
    found = reference(data)
    direction = torch.nn.functional.normalize(drawn(size, "direction")[0], dim=0)
    along = found.gaussian.mean + torch.linspace(0, 1, 50).double()[:, None] * direction
    radii = found.gaussian.radius(along)
    assert bool((radii.diff() > 0).all())
    assert bool((found.quantiles(along).diff() >= 0).all())
    assert float(found.quantiles(found.gaussian.mean[None])) == 0
    assert float(found.quantiles(found.gaussian.mean[None] + 1e6 * direction)) == 1


@given(sizes)
def test_the_datas_own_quantiles_are_spread_evenly(size):
    data = drawn(size)
    found = reference(data).quantiles(data).sort().values
    expected = torch.arange(1, len(data) + 1).double() / len(data)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert float(found.median()) == pytest.approx(0.5, abs=1 / len(data))


@given(sizes, st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
@settings(max_examples=50)
def test_the_coordinates_do_not_matter(size, offset, scale):
    """Without shrinkage an invertible affine map of data and vectors changes no radius."""
    data, others = drawn(size), drawn(size, "others")
    hidden = data.shape[1]
    generator = torch_generator(size[2], "map")
    rotation = torch.linalg.qr(torch.randn(hidden, hidden, generator=generator).double()).Q
    stretch = torch.rand(hidden, generator=generator).double() + 0.5
    moved, moved_others = ((x @ rotation * stretch * scale + offset) for x in (data, others))
    one, two = reference(data), reference(moved)
    # An offset of a million spreads costs six digits of the sixteen.
    torch.testing.assert_close(
        two.gaussian.radius(moved_others), one.gaussian.radius(others), rtol=1e-6, atol=1e-6
    )
    quantiles = one.quantiles(others), two.quantiles(moved_others)
    # A radius may round to the other side of one of the data's.
    assert float((quantiles[0] - quantiles[1]).abs().max()) <= 1.001 / len(data)


def test_radii_are_scikit_learns():
    data = drawn((200, 5, 0))
    expected = EmpiricalCovariance().fit(data.numpy()).mahalanobis(data.numpy()) ** 0.5
    np.testing.assert_allclose(reference(data).radii, expected, rtol=1e-10)


def test_a_radius_equal_to_one_of_the_datas_counts_it():
    gaussian = reference(torch.tensor([[1.0], [-1.0]])).gaussian
    radii = torch.tensor([1.0, 2.0, 2.0, 3.0], dtype=torch.float64)
    points = torch.tensor([[0.0], [1.0], [1.5], [2.0], [-2.0], [3.0], [9.0]])
    assert Reference(gaussian, radii).quantiles(points).tolist() == [0, 0.25, 0.25, 0.75, 0.75, 1, 1]
