"""The sketch against numpy's quantiles and ddsketch's own bins."""

import math

import numpy as np
import pytest
import torch
from ddsketch import DDSketch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from softprior.errors import UserError
from softprior.seeding import numpy_generator
from softprior.statistics.norms import NormSketch

SHARES = [0.0, 0.001, 0.01, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0]


def norms(count: int, name: str = "lognormal") -> torch.Tensor:
    """From sinks to nearly nothing: ten orders of magnitude."""
    return torch.from_numpy(numpy_generator(0, name, count).lognormal(3, 2.5, count)).float()


def sketch(*blocks: torch.Tensor) -> NormSketch:
    result = NormSketch()
    for block in blocks:
        result.add(block)
    return result


def same(one: NormSketch, two: NormSketch) -> bool:
    found, expected = one.tensors("x"), two.tensors("x")
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("count", [1, 2, 10, 20_000])
@pytest.mark.parametrize("zeros", [0, 3, 5000])
def test_quantiles_are_within_one_percent_of_numpys(count, zeros):
    values = torch.cat([torch.zeros(zeros), norms(count)])
    found = sketch(values)
    assert found.count == len(values)
    assert (found.min, found.max) == (float(values.min()), float(values.max()))
    for share in SHARES:
        expected = np.quantile(values.double().numpy(), share, method="lower")
        # The last digits: an edge of a bin is a power, rounded.
        assert found.quantile(share) == pytest.approx(expected, rel=0.01 + 1e-12, abs=0)
    assert (found.quantile(0.0), found.quantile(1.0)) == (found.min, found.max)


def test_bins_are_the_librarys():
    values = norms(3000)
    edges = torch.tensor([DDSketch(0.01)._mapping.value(key) for key in range(-50, 400)], dtype=torch.float64)
    for part in (values, edges, torch.tensor([0.0, 1e-45, 1.0, 3e38])):
        library = DDSketch(0.01)
        for value in part.double().tolist():
            library.add(value)
        found = sketch(part)
        for share in SHARES[1:-1]:
            expected = library.get_quantile_value(share)
            assert found.quantile(share) == min(max(expected, found.min), found.max)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_any_split_order_and_tree_gives_identical_bins(sizes, random):
    values = torch.cat([norms(sum(sizes)), torch.zeros(2)])
    sizes.append(2)
    parts = [sketch(part) for part in values.split(sizes)]
    random.shuffle(parts)
    while len(parts) > 1:
        i = random.randrange(len(parts) - 1)
        parts[i].merge(parts.pop(i + 1))
    assert same(parts[0], sketch(values))
    assert same(sketch(*values.flip(0).split(3)), sketch(values))


def test_a_value_falls_into_the_same_bin_wherever_it_stands():
    """Vectorised logarithms take remainders another way on some machines."""
    value = norms(1)
    for count in range(1, 40):
        assert len(sketch(value.repeat(count)).tensors("x")["x/bins"]) == 1


def test_merging_leaves_the_other_alone():
    one, two = sketch(norms(10)), sketch(norms(20, "other"))
    copy = sketch(norms(20, "other"))
    one.merge(two)
    one.add(norms(30))
    assert same(two, copy)
    empty = NormSketch()
    empty.merge(two)
    empty.add(norms(30))
    assert same(two, copy)


def test_nothing_has_no_quantiles():
    empty = sketch(torch.empty(0))
    empty.merge(NormSketch())
    assert empty.count == 0
    assert math.isnan(empty.quantile(0.5))
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        empty.quantile(1.5)


@pytest.mark.parametrize("values", [torch.empty(0), torch.zeros(4), torch.cat([torch.zeros(2), norms(500)])])
def test_tensors_go_through_a_file_and_on(values):
    found = sketch(values)
    tensors = found.tensors("all/norms")
    assert tensors["all/norms/bins"].dtype == tensors["all/norms/counts"].dtype == torch.int64
    assert (tensors["all/norms/counts"] > 0).all()
    again = NormSketch.from_tensors(load(save(tensors)), "all/norms")
    assert same(again, found)
    for each in (found, again):
        each.add(norms(50, "more"))
    assert same(again, found)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_what_is_no_norm_is_refused_and_not_counted(bad):
    found = sketch(norms(5))
    with pytest.raises(
        UserError, match=r"norms must be finite and not negative, but there are values from .* wider dtype$"
    ):
        found.add(torch.tensor([1.0, bad]))
    assert same(found, sketch(norms(5)))
