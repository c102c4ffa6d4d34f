"""Trajectories row by row against numpy and scipy, spans, and paired summaries."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import chisquare, wilcoxon

from softprior.seeding import derive, torch_generator
from softprior.statistics import sequences as module
from softprior.statistics.sequences import (
    random_span,
    row_statistics,
    spread,
    step,
    trace,
    trajectory_summary,
)


def draws(count: int, dimension: int = 6, offset: float = 0.0) -> torch.Tensor:
    return torch.randn(count, dimension, generator=torch_generator(0, "states", count)) + offset


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("count", [2, 3, 40])
def test_one_text_equals_numpy_and_scipy(count, offset):
    states = draws(count, offset=offset)
    exact = states.double().numpy()
    assert trace(states) == pytest.approx(np.cov(exact.T).trace(), rel=1e-10)
    assert spread(states) == pytest.approx((pdist(exact) ** 2).mean(), rel=1e-10)
    steps = [np.linalg.norm(exact[i + 1] - exact[i]) for i in range(count - 1)]
    assert step(states) == pytest.approx(np.mean(steps), rel=1e-10)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_tokens_have_neither_spread_nor_steps(count):
    assert all(math.isnan(function(draws(count))) for function in (trace, spread, step))


def literal(states, rows, counted, count):
    """One row, one token at a time, in float64."""
    tokens, traces, steps, lengths = [], [], [], []
    for row in range(count):
        here = [i for i in range(len(rows)) if rows[i] == row]
        kept = [states[i].double() for i in here if counted[i]]
        walk = [
            float((states[j].double() - states[i].double()).norm())
            for i, j in pairwise(here)
            if counted[i] and counted[j]
        ]
        tokens.append(len(kept))
        traces.append(trace(torch.stack(kept)) if kept else math.nan)
        steps.append(len(walk))
        lengths.append(sum(walk) / len(walk) if walk else math.nan)
    return tokens, traces, steps, lengths


def agree(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=1e-12)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 1e3]),
    st.sampled_from([(torch.float32, 1e-5), (torch.float64, 1e-10)]),
)
@settings(max_examples=60)
def test_a_packed_batch_equals_its_rows(lengths, random, offset, precision):
    dtype, tolerance = precision
    rows = torch.tensor([r for r, length in enumerate(lengths) for _ in range(length)], dtype=torch.int64)
    # Every row around a centre of its own, so that one common centre would not do.
    states = (draws(len(rows)) + offset * (1 + rows[:, None])).to(dtype)
    counted = torch.tensor([random.random() < 0.8 for _ in rows], dtype=torch.bool)
    found = row_statistics(states, rows, counted, len(lengths) + 1)
    assert found.trace.dtype == found.step.dtype == torch.float64
    agree(found, literal(states, rows, counted, len(lengths) + 1), tolerance)


@pytest.mark.parametrize("extra", [-1, 0, 1, 2])
def test_blocks_join(extra):
    count = 2 * module.BLOCK + extra
    rows = torch.arange(count) // 300
    counted = torch.ones(count, dtype=torch.bool)
    counted[[0, module.BLOCK + 3]] = False
    states = draws(count)
    agree(row_statistics(states, rows, counted, 4), literal(states, rows, counted, 4), 1e-5)


def test_a_token_that_does_not_count_breaks_the_path_and_may_be_anything():
    states = torch.tensor([[0.0, 0.0], [3.0, 4.0], [math.nan, math.inf], [9.0, 4.0], [9.0, 5.0]])
    counted = torch.tensor([True, True, False, True, True])
    found = row_statistics(states, torch.zeros(5, dtype=torch.int64), counted, 1)
    assert (found.tokens.item(), found.steps.item()) == (4, 2)
    assert found.step.item() == pytest.approx((5 + 1) / 2)
    assert found.trace.item() == pytest.approx(trace(states[counted]), rel=1e-6)


@pytest.mark.parametrize("count", [0, 3])
def test_nothing_counted(count):
    rows, counted = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.bool)
    found = row_statistics(draws(count), rows, counted, 2)
    assert found.tokens.tolist() == found.steps.tolist() == [0, 0]
    assert found.trace.isnan().all()
    assert found.step.isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    states, rows = draws(50).to(dtype), torch.arange(50) // 10
    counted = torch.ones(50, dtype=torch.bool)
    agree(row_statistics(states, rows, counted, 5), literal(states, rows, counted, 5), 1e-5)


def test_random_spans_lie_in_the_row_and_are_uniform():
    documents = torch.tensor([derive(0, "text", i) for i in range(4000)])
    starts = random_span(torch.full((4000,), 12), torch.full((4000,), 5), documents, seed=0)
    counts = torch.bincount(starts, minlength=8)
    assert len(counts) == 8
    assert chisquare(counts.numpy()).pvalue > 0.01
    other = random_span(torch.full((4000,), 12), torch.full((4000,), 5), documents, seed=1)
    assert (starts == other).double().mean() == pytest.approx(1 / 8, abs=0.03)


def test_a_span_belongs_to_its_document():
    documents = torch.tensor([11, 22, 33, 44])
    candidates, lengths = torch.tensor([900, 50, 700, 60]), torch.tensor([3, 1, 9, 2])
    starts = random_span(candidates, lengths, documents, seed=5)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(random_span(candidates[order], lengths[order], documents[order], 5), starts[order])
    # Frozen: another process draws the same.
    assert starts[0].item() == derive(5, "random span", 11) % 898


def test_where_there_is_no_room_there_is_no_span():
    starts = random_span(torch.tensor([4, 5, 0, 9]), torch.tensor([5, 5, 1, 0]), torch.arange(4), seed=0)
    assert starts.tolist() == [-1, 0, -1, -1]


def test_the_summary_equals_numpy_and_scipy():
    generator = torch_generator(0, "summary")
    null = torch.rand(80, generator=generator).double() + 1
    observed = null * torch.exp(0.3 * torch.randn(80, generator=generator).double() - 0.2)
    found = trajectory_summary(observed, null, seed=0)
    logs = np.log((observed / null).numpy())
    assert (found.texts, found.left_out, found.one_sided, found.note) == (80, 0, 0, "")
    assert found.median_ratio == pytest.approx(np.median(np.exp(logs)))
    assert found.mean_log_ratio == pytest.approx(logs.mean())
    assert found.p == pytest.approx(wilcoxon(logs).pvalue)
    assert found.p < 0.001
    # A percentile interval of a mean is close to the normal one.
    half = 1.96 * logs.std(ddof=1) / math.sqrt(80)
    assert (found.low, found.high) == pytest.approx((logs.mean() - half, logs.mean() + half), abs=0.2 * half)
    assert found == trajectory_summary(observed, null, seed=0)
    assert found.low != trajectory_summary(observed, null, seed=1).low


def test_zeros_count_where_they_can_and_nans_nowhere():
    observed = torch.tensor([0.0, 1.0, 2.0, 4.0, 0.0, math.nan, 1.0])
    null = torch.tensor([1.0, 2.0, 4.0, 0.0, 0.0, 1.0, math.nan])
    found = trajectory_summary(observed, null, seed=0)
    assert (found.texts, found.left_out, found.one_sided) == (4, 3, 2)
    assert found.median_ratio == 0.5
    assert found.mean_log_ratio == pytest.approx(math.log(0.5))
    # The largest ranks: those with a zero, one on either side.
    assert found.p == pytest.approx(wilcoxon([-10.0, -1.0, -1.0, 10.0]).pvalue)


def test_equal_numbers_say_nothing_against_the_null():
    values = torch.ones(9)
    found = trajectory_summary(values, values, seed=0)
    assert (found.median_ratio, found.mean_log_ratio, found.low, found.high, found.p) == (1, 0, 0, 0, 1)


@pytest.mark.parametrize("values", [[], [math.nan], [0.0, 0.0]])
def test_without_a_pair_there_is_a_note(values):
    found = trajectory_summary(torch.tensor(values), torch.ones(len(values)), seed=0)
    assert found.note == f"no text has two positive values ({len(values)} given)"
    assert found.texts + found.left_out == len(values)
    assert math.isnan(found.p)
    assert math.isnan(found.mean_log_ratio)
