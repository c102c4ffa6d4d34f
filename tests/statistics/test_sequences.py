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
    trajectory_summary,
    unigram_traces,
)
from tests.statistics.one_text import step, trace


def draws(count: int, dimension: int = 6, offset: float = 0.0) -> torch.Tensor:
    return torch.randn(count, dimension, generator=torch_generator(0, "states", count)) + offset


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("count", [2, 3, 40])
def test_one_text_equals_numpy_and_scipy(count, offset):
    states = draws(count, offset=offset)
    exact = states.double().numpy()
    assert trace(states) == pytest.approx(np.cov(exact.T).trace(), rel=1e-10)
    assert trace(states) == pytest.approx((pdist(exact) ** 2).mean() / 2, rel=1e-10)
    steps = [np.linalg.norm(exact[i + 1] - exact[i]) for i in range(count - 1)]
    assert step(states) == pytest.approx(np.mean(steps), rel=1e-10)


def literal(states, rows, counted, count):
    """One row, one token at a time, in float64."""
    tokens, traces, lengths = [], [], []
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
        lengths.append(sum(walk) / len(walk) if walk else math.nan)
    return tokens, traces, lengths


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
    assert found.tokens.item() == 4
    assert found.step.item() == pytest.approx((5 + 1) / 2)
    assert found.trace.item() == pytest.approx(trace(states[counted]), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_tokens_have_a_trace_of_exactly_zero(dtype):
    rows = torch.arange(2, 40).repeat_interleave(torch.arange(2, 40)) - 2
    states = draws(38, dimension=64).to(dtype)[rows]
    counted = torch.ones(len(rows), dtype=torch.bool)
    assert row_statistics(states, rows, counted, 38).trace.tolist() == [0] * 38


@pytest.mark.parametrize("count", [0, 3])
def test_nothing_counted(count):
    rows, counted = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.bool)
    found = row_statistics(draws(count), rows, counted, 2)
    assert found.tokens.tolist() == [0, 0]
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


def test_unigram_traces_lie_where_those_of_independent_tokens_do():
    """Of heavy tails, where a short text's log trace is far below that of the whole."""
    inside, plain = 0, 0
    for run in range(100):
        generator = torch_generator(run, "unigram")
        states = torch.randn(200, 4, 5, generator=generator)
        states *= (torch.randn(200, 4, 1, generator=generator) / 2).exp()
        flat = states.reshape(-1, 5)
        whole = float(flat.double().var(0, correction=0).sum())
        observed = torch.tensor([trace(text) for text in states[:60]])
        null = unigram_traces(flat[::2], whole, tokens(60, 4), run)
        found = trajectory_summary(observed, null, torch.arange(60), run, resamples=400)
        inside += found.low < 0 < found.high
        biased = trajectory_summary(observed, torch.full((60,), whole), torch.arange(60), run, resamples=400)
        plain += biased.low < 0 < biased.high
    assert 88 <= inside <= 100
    assert plain < 40


def tokens(texts: int, count: int) -> torch.Tensor:
    return torch.full((texts,), count)


def test_unigram_traces_of_equal_or_too_few_tokens_are_zero():
    assert unigram_traces(torch.ones(5, 3) / 3, 1.0, tokens(2, 4), seed=0).tolist() == [0, 0]
    assert unigram_traces(draws(9), 1.0, torch.tensor([0, 1]), seed=0).tolist() == [0, 0]


def test_the_summary_equals_numpy_and_scipy_over_documents():
    generator = torch_generator(0, "summary")
    null = torch.rand(80, generator=generator).double() + 1
    observed = null * torch.exp(0.3 * torch.randn(80, generator=generator).double() - 0.2)
    documents = torch.arange(80) % 40 + 7
    found = trajectory_summary(observed, null, documents, seed=0)
    logs = np.log((observed / null).numpy()).reshape(2, 40).mean(0)
    assert (found.texts, found.documents, found.left_out, found.one_sided, found.note) == (80, 40, 0, 0, "")
    assert found.median_ratio == pytest.approx(np.median(np.exp(logs)))
    assert found.mean_log_ratio == pytest.approx(logs.mean())
    assert found.p == pytest.approx(wilcoxon(logs).pvalue)
    assert found.p < 0.001
    # An interval of a mean of normal values is close to t's.
    half = 2.02 * logs.std(ddof=1) / math.sqrt(40)
    assert (found.low, found.high) == pytest.approx((logs.mean() - half, logs.mean() + half), abs=0.2 * half)
    assert found == trajectory_summary(observed, null, documents, seed=0)
    assert found.low != trajectory_summary(observed, null, documents, seed=1).low


def test_the_interval_holds_for_coherent_documents_and_texts_as_units_would_be_too_sure():
    """Each document has a level of its own, and 20 texts: they are 15 observations, and not 300."""
    inside, wrong, significant = 0, 0, 0
    for run in range(100):
        generator = torch_generator(run, "documents")
        levels = 0.3 * torch.randn(15, 1, generator=generator)
        observed = (levels + 0.1 * torch.randn(15, 20, generator=generator)).exp().flatten()
        found, texts = (
            trajectory_summary(observed, torch.ones(300), documents, run, resamples=400)
            for documents in (torch.arange(300) // 20, torch.arange(300))
        )
        inside += found.low < 0 < found.high
        significant += found.p <= 0.05
        wrong += texts.p <= 0.05
    assert inside >= 85
    assert significant <= 12
    assert wrong > 40


def test_zeros_count_where_they_can_and_nans_nowhere():
    observed = torch.tensor([0.0, 1.0, 2.0, 4.0, 0.0, math.nan, 1.0])
    null = torch.tensor([1.0, 2.0, 4.0, 0.0, 0.0, 1.0, math.nan])
    found = trajectory_summary(observed, null, torch.arange(7), seed=0)
    assert (found.texts, found.documents, found.left_out, found.one_sided) == (4, 4, 3, 2)
    assert found.median_ratio == 0.5
    assert found.mean_log_ratio == pytest.approx(math.log(0.5))
    # The largest ranks: those with a zero, one on either side.
    assert found.p == pytest.approx(wilcoxon([-10.0, -1.0, -1.0, 10.0]).pvalue)


def test_a_document_ranks_by_the_side_with_more_zeros():
    observed = torch.tensor([0.0, 0.0, 1.0, 2.0, 0.0, 1.0, 3.0])
    null = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    found = trajectory_summary(observed, null, torch.tensor([1, 1, 1, 1, 2, 2, 3]), seed=0)
    # The ratios of the documents: zero, one (a zero on either side), and three.
    assert (found.texts, found.documents, found.one_sided, found.median_ratio) == (7, 3, 5, 1)
    assert found.mean_log_ratio == pytest.approx((math.log(2) + math.log(3)) / 2)


def test_equal_numbers_say_nothing_against_the_null():
    values = torch.ones(9)
    found = trajectory_summary(values, values, torch.arange(9), seed=0)
    assert (found.median_ratio, found.mean_log_ratio, found.low, found.high, found.p) == (1, 0, None, None, 1)
    assert found.note == "equal in all 9 documents, which says nothing of their spread"


@pytest.mark.parametrize("values", [[], [math.nan], [0.0, 0.0]])
def test_without_a_pair_there_is_a_note(values):
    count = len(values)
    found = trajectory_summary(torch.tensor(values), torch.ones(count), torch.arange(count), seed=0)
    assert found.note == f"no text has two positive values ({count} given)"
    assert found.texts + found.left_out == count
    assert found.p is None
    assert found.mean_log_ratio is None


def test_one_document_has_a_ratio_but_no_interval():
    found = trajectory_summary(torch.full((5,), 2.0), torch.ones(5), torch.zeros(5).long(), seed=0)
    assert found.note == "an interval needs 4 documents, but there is one"
    assert found.median_ratio == pytest.approx(2)
    assert found.low is None
    assert found.p is None
