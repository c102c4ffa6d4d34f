"""Tokens at like positions do not give their task away."""

import dataclasses

import pytest
import torch
from scipy.stats import ks_2samp

from softprior.seeding import torch_generator
from softprior.statistics.clusters import separation
from softprior.statistics.points import Points, matched


def draws(count: int, name: str) -> torch.Tensor:
    return torch.randn(count, 5, generator=torch_generator(0, name, count))


def texts(lengths: list[int], name: str) -> Points:
    count = sum(lengths)
    positions = torch.tensor([i for length in lengths for i in range(length)], dtype=torch.int64)
    return Points(
        draws(count, name),
        torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths, dtype=torch.int64)),
        positions,
    )


def test_matched_points_do_not_give_their_task_away_by_position():
    long, short = texts([200] * 20, "long"), texts(list(range(4, 30)) * 8, "short")
    assert ks_2samp(long.positions, short.positions).pvalue < 1e-10
    one, other = matched([long, short], seed=0)
    assert len(one.vectors) == len(other.vectors) > 200
    assert ks_2samp(one.positions, other.positions).pvalue > 0.2
    means = [float(points.positions.double().mean()) for points in (one, other)]
    assert means[0] == pytest.approx(means[1], rel=0.05)
    for before, after in ((long, one), (short, other)):
        rows = {tuple(row) for row in before.vectors.tolist()}
        kept = [tuple(row) for row in after.vectors.tolist()]
        assert len(set(kept)) == len(kept)
        assert set(kept) <= rows


def test_matching_is_reproducible_and_keeps_what_is_matched():
    long, short = texts([60] * 15, "long"), texts([20] * 9, "short")
    one, again = (matched([long, short], seed=1)[0] for _ in range(2))
    assert torch.equal(one.vectors, again.vectors)
    assert not torch.equal(one.vectors, matched([long, short], seed=2)[0].vectors)
    assert len(matched([short, short], seed=1)[0].vectors) == 180


def test_tasks_without_a_common_position_leave_nothing():
    early, empty = texts([20] * 9, "early"), texts([], "none")
    late = dataclasses.replace(early, positions=early.positions + 100)
    for a, b in ((early, late), (early, empty), (empty, empty)):
        one, other = matched([a, b], seed=0)
        assert (len(one.vectors), len(other.vectors)) == (0, 0)
        assert separation(one, other, seed=0).note == "each task needs 4 documents, but there are 0 and 0"
