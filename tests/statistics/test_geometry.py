"""Metrics against their literal forms in numpy and scipy. Both sides are float64: 1e-12 is rounding."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist, squareform
from scipy.stats import ecdf

from softprior.seeding import torch_generator
from softprior.statistics import geometry
from softprior.statistics.geometry import (
    distance_moved,
    mean_pairwise_cosine,
    nearest,
    participation_ratio,
    quantile_among,
    reach,
)

ROUNDING = 1e-12


def vectors(count: int, dimension: int, name: str, offset: float = 0.0) -> torch.Tensor:
    return torch.randn(count, dimension, generator=torch_generator(0, name)) + offset


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_distance_moved(offset):
    a, b = vectors(20, 30, "a", offset), vectors(20, 30, "b", offset)
    expected = [math.dist(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert distance_moved(a, b).tolist() == pytest.approx(expected, rel=ROUNDING)
    assert distance_moved(a, a).tolist() == [0.0] * 20


def test_reach_is_what_adamw_travels_under_a_constant_gradient():
    rate, steps, dimension = 1e-2, 50, 7
    x = torch.zeros(1, dimension, dtype=torch.float64)
    optimizer = torch.optim.AdamW([x], lr=rate, weight_decay=0.0, eps=1e-12)
    for _ in range(steps):
        x.grad = torch.full_like(x, 0.3)
        optimizer.step()
    # Adam divides by |g| + epsilon, so it stays short of the rate by epsilon / |g| = 3e-12.
    assert float(x.norm()) == pytest.approx(reach(rate, float(steps), dimension), rel=1e-10)


def test_quantiles_are_those_of_the_empirical_distribution():
    values, reference = vectors(50, 1, "v")[:, 0], vectors(201, 1, "r")[:, 0]
    values = torch.cat([values, reference[:5], torch.tensor([-1e9, 1e9])])
    expected = ecdf(reference.double().numpy()).cdf.evaluate(values.double().numpy())
    np.testing.assert_allclose(quantile_among(values, reference), expected, rtol=ROUNDING)
    assert quantile_among(values, reference)[-2:].tolist() == [0.0, 1.0]


def test_equal_values_count_as_at_or_below():
    assert quantile_among(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0, 2.0, 3.0])).tolist() == [
        0.5,
        0.75,
    ]


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_mean_pairwise_cosine(offset):
    x = vectors(20, 30, "a", offset)
    expected = 1 - pdist(x.double().numpy(), "cosine").mean()
    assert mean_pairwise_cosine(x) == pytest.approx(expected, rel=ROUNDING, abs=ROUNDING)


def test_cosines_of_known_sets():
    assert mean_pairwise_cosine(torch.eye(5)) == pytest.approx(0, abs=ROUNDING)
    assert mean_pairwise_cosine(torch.ones(4, 3)) == pytest.approx(1, rel=ROUNDING)
    assert mean_pairwise_cosine(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])) == pytest.approx(-1, rel=ROUNDING)
    assert math.isnan(mean_pairwise_cosine(torch.ones(1, 3)))


@pytest.mark.parametrize(("count", "dimension"), [(20, 30), (30, 5), (2, 4)])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_participation_ratio(count, dimension, offset):
    x = vectors(count, dimension, "a", offset)
    values = np.linalg.eigvalsh(np.cov(x.double().numpy().T, bias=True))
    # The covariance squares the condition number; 1e-9 is its rounding.
    assert participation_ratio(x) == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-9)
    assert 1 - ROUNDING <= participation_ratio(x) <= min(count - 1, dimension) + ROUNDING


def test_participation_of_known_sets():
    assert participation_ratio(torch.cat([torch.eye(6), -torch.eye(6)])) == pytest.approx(6, rel=ROUNDING)
    assert participation_ratio(torch.eye(6)) == pytest.approx(5, rel=ROUNDING)
    line = torch.linspace(0, 1, 9)[:, None] * torch.tensor([[3.0, 4.0]])
    # The points of the line are rounded to float32, so they leave it by 1e-7 of its length.
    assert participation_ratio(line) == pytest.approx(1, rel=1e-6)
    assert math.isnan(participation_ratio(torch.full((7, 3), 0.1)))
    assert math.isnan(participation_ratio(torch.ones(1, 3)))


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_nearest(offset):
    # More than 25 vectors, from where torch's cdist takes products unless told otherwise.
    x, table = vectors(40, 16, "x", offset), vectors(300, 16, "t", offset)
    full = cdist(x.double().numpy(), table.double().numpy())
    distances, indices = nearest(x, table, 3)
    order = np.argsort(full, axis=1)[:, :3]
    assert indices.tolist() == order.tolist()
    np.testing.assert_allclose(distances, np.take_along_axis(full, order, 1), rtol=ROUNDING)


def test_a_row_of_the_table_is_nearest_to_itself_at_distance_zero():
    table = vectors(300, 64, "t", 1e3)
    distances, indices = nearest(table[100:150], table)
    assert distances.flatten().tolist() == [0.0] * 50
    assert indices.flatten().tolist() == list(range(100, 150))
    others = squareform(pdist(table.double().numpy()))[100:150]
    second = nearest(table[100:150], table, 2)[0][:, 1]
    np.testing.assert_allclose(second, np.sort(others, axis=1)[:, 1], rtol=ROUNDING)


def test_the_nearest_rows_of_a_table_in_parts_are_those_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, table = vectors(7, 5, "own"), vectors(103, 5, "table")
    table[99] = own[3]
    distances = cdist(own.double().numpy(), table.double().numpy())
    for rows in (1, 10, 50, 1000):
        monkeypatch.setattr(geometry, "PART", rows * 5)
        found, at = nearest(own, table, 12)
        assert at.tolist() == distances.argsort(1)[:, :12].tolist()
        assert found.numpy() == pytest.approx(np.sort(distances, 1)[:, :12])
        assert float(found[3, 0]) == 0
