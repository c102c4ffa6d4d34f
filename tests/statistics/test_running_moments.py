"""The in-place accumulator against numpy and scipy in float64 on everything at once."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from softprior.seeding import torch_generator
from softprior.statistics import moments as module
from softprior.statistics.moments import DimensionMoments, Moments, RunningMoments


def sample(count: int, dimension: int, offset: float = 0.0) -> torch.Tensor:
    """Correlated, skewed, heavy-tailed vectors, float32; each dimension has an offset of its own."""
    generator = torch_generator(0, "running", count, dimension)
    mixing = torch.eye(dimension) + 0.3 * torch.randn(dimension, dimension, generator=generator)
    normal = torch.randn(count, dimension, generator=generator)
    return (normal + 0.3 * normal**2) @ mixing + offset * torch.linspace(-1, 1, dimension)


def running(vectors: torch.Tensor, exact: bool = False) -> RunningMoments:
    result = RunningMoments(vectors.shape[1], exact)
    result.add(vectors)
    return result


def agree(
    found: RunningMoments,
    vectors: torch.Tensor,
    covariance: float,
    mean: float,
    skewness: float,
    kurtosis: float,
) -> None:
    """Errors relative to: the largest variance; each spread; 1; each fourth standardised moment."""
    exact = vectors.double().numpy()
    moments, dimensions = found.moments, found.dimensions
    assert moments.count == dimensions.count == found.count == len(exact)
    expected = np.cov(exact.T, bias=True).reshape(exact.shape[1], -1)
    np.testing.assert_allclose(moments.covariance(), expected, rtol=0, atol=covariance * expected.max())
    assert torch.equal(moments.scatter, moments.scatter.T)
    spread = exact.std(0)
    np.testing.assert_allclose(moments.mean / spread, exact.mean(0) / spread, rtol=1e-15, atol=mean)
    assert torch.equal(dimensions.mean, moments.mean)
    assert torch.equal(dimensions.m2, moments.scatter.diagonal())
    np.testing.assert_allclose(dimensions.variance(), exact.var(0), rtol=0, atol=covariance * expected.max())
    third = dimensions.m3 / dimensions.count / dimensions.variance() ** 1.5
    np.testing.assert_allclose(third, scipy.stats.skew(exact), rtol=0, atol=skewness)
    fourth = scipy.stats.kurtosis(exact, fisher=False)
    np.testing.assert_allclose((dimensions.kurtosis() + 3) / fourth, 1, rtol=0, atol=kurtosis)


SIZES = [2, 37, module.ROWS, module.ROWS + 1, 2 * module.ROWS + 7]


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("count", SIZES)
def test_exact_moments_equal_numpys_and_scipys(count, offset):
    vectors = sample(count, 5, offset)
    # Numpy's own mean at 1e3 is rounded by 1e-13, and two vectors may lie a hundredth of a spread apart.
    agree(running(vectors, exact=True), vectors, 1e-10, 1e-10, 1e-10, 1e-10)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
@pytest.mark.parametrize("count", SIZES)
def test_fast_moments_keep_their_bounds(count, offset):
    vectors = sample(count, 24, offset)
    vectors[:, 1] = vectors[:, 0]  # the worst case of a product: all its terms are positive
    # At 1e5, vectors are multiples of a 128th of a spread, and so are what their sums are rounded to.
    agree(running(vectors), vectors, 4e-6 if offset == 1e5 else 5e-7, 1e-6, 1e-6, 1e-6)


@pytest.mark.parametrize("exact", [False, True])
def test_one_triangle_fills_the_whole_scatter(exact):
    vectors = sample(700, 581, 10.0)
    whole = Moments.empty(vectors.shape[1]).update(vectors)
    found = running(vectors, exact).moments
    tolerance = 1e-10 if exact else 1e-6
    bound = tolerance * float(whole.scatter.diagonal().max())
    np.testing.assert_allclose(found.scatter, whole.scatter, rtol=0, atol=bound)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 1e3]),
)
def test_any_split_order_and_tree_gives_the_same(sizes, random, offset):
    sizes.append(2)
    vectors = sample(sum(sizes), 4, offset)
    parts = [running(part, exact=True) for part in vectors.split(sizes)]
    random.shuffle(parts)
    while len(parts) > 1:
        i = random.randrange(len(parts) - 1)
        parts[i].merge(parts.pop(i + 1))
    agree(parts[0], vectors, 1e-10, 1e-10, 1e-10, 1e-10)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.sampled_from([False, True]))
def test_blocks_added_one_by_one_give_the_same(sizes, exact):
    sizes.append(2)
    vectors = sample(sum(sizes), 4, 1e3)
    found = RunningMoments(4, exact)
    for part in vectors.split(sizes):
        found.add(part)
    agree(found, vectors, *[1e-10 if exact else 1e-6] * 4)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e3, 1e5])
def test_constant_dimensions_have_no_variance_and_no_shape(value, exact):
    vectors = sample(3000, 3)
    vectors[:, 1] = value
    found = RunningMoments(3, exact)
    for part in vectors.split([1, 999, 2000]):
        found.add(part)
    dimensions = found.dimensions
    assert dimensions.mean[1] == vectors[0, 1].double()
    assert dimensions.variance()[1] == 0
    assert dimensions.kurtosis().isnan().tolist() == [False, True, False]


def test_what_is_rounding_of_the_mean_counts_as_constant():
    one = torch.ones(1, dtype=torch.float64)
    noise = DimensionMoments(10, 1e3 * one, 1e-27 * one, 1e-40 * one, 1e-54 * one)
    assert noise.kurtosis().isnan().all()


def test_few_vectors_wait_for_others_and_count_at_once():
    found, vectors = RunningMoments(24), sample(3 * module.GATHERED, 24)
    at = 0
    for count in (2, module.GATHERED - 3, module.GATHERED, 5, module.GATHERED - 4):
        found.add(vectors[at : at + count])
        at += count
        assert found.count == at
        agree(running(vectors[:at]), vectors[:at], 5e-7, 1e-6, 1e-6, 1e-6)
    agree(found, vectors[:at], 5e-7, 1e-6, 1e-6, 1e-6)
    reused = vectors[:3].clone()
    found.add(reused)
    reused.zero_()  # a caller may use its memory again
    agree(found, torch.cat([vectors[:at], vectors[:3]]), 5e-7, 1e-6, 1e-6, 1e-6)


def test_none_and_one_vector():
    nothing = RunningMoments(3)
    nothing.add(torch.empty(0, 3))
    nothing.merge(RunningMoments(3))
    assert nothing.count == nothing.moments.count == 0
    for value in (nothing.dimensions.variance(), nothing.dimensions.kurtosis()):
        assert value.isnan().all()
    vectors = sample(1, 3, 1e3)
    nothing.merge(running(vectors))
    assert nothing.count == 1
    assert torch.equal(nothing.moments.mean, vectors[0].double())
    assert not nothing.moments.scatter.any()
    assert nothing.dimensions.variance().tolist() == [0, 0, 0]
    assert nothing.dimensions.kurtosis().isnan().all()


def test_any_floating_type_is_taken():
    half = sample(500, 4).bfloat16()
    agree(running(half), half, 1e-6, 1e-6, 1e-6, 1e-6)
    # In the exact mode nothing of a float64 vector is lost.
    double = sample(500, 4, 1e3).double() + 1e-9 * sample(500, 4).double()
    agree(running(double, exact=True), double, 1e-10, 1e-10, 1e-10, 1e-10)


def test_what_was_handed_out_stays_and_arguments_are_left_alone():
    vectors, more = sample(10, 3), sample(7, 3)
    found, other = running(vectors), running(more)
    moments, dimensions, tensors = found.moments, found.dimensions, found.tensors("all")
    before = (moments.scatter.clone(), dimensions.m4.clone(), tensors["all/m3"].clone(), vectors.clone())
    theirs = other.tensors("all")
    found.merge(other)
    found.add(vectors)
    after = (moments.scatter, dimensions.m4, tensors["all/m3"], vectors)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(torch.equal(a, theirs[name]) for name, a in other.tensors("all").items())


@pytest.mark.parametrize("exact", [False, True])
def test_tensors_go_through_a_file_and_on_as_if_nothing_was(exact):
    vectors, more = sample(300, 4, 1e3), sample(80, 4)
    found = running(vectors, exact)
    tensors = found.tensors("all")
    assert {name: tensor.dtype for name, tensor in tensors.items()} == dict.fromkeys(
        ["all/mean", "all/scatter", "all/m3", "all/m4"], torch.float64
    )
    again = RunningMoments.from_tensors(load(save(tensors)), "all", found.count, exact)
    found.add(more)
    again.add(more)
    assert again.count == 380
    assert all(torch.equal(a, again.tensors("all")[name]) for name, a in found.tensors("all").items())
    merged = running(more, exact)
    merged.merge(RunningMoments.from_tensors(tensors, "all", 300))
    np.testing.assert_allclose(merged.moments.scatter, found.moments.scatter, rtol=1e-5)
