"""Passes side by side give what one pass gives, in every family and for every kind of prompt."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softprior.models import causal_chunks, lanes
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.protocol import Request
from softprior.testing.families import FAMILIES, OTHER_FAMILIES, random_model
from softprior.testing.hosts import example_batch, example_prompts
from softprior.testing.hosts.examples import MAX_NEW, unlabelled
from softprior.training.evaluation import answer_batches
from tests.distances import apart


@contextmanager
def met(module, count):
    """Has as many passes wait for each other before a module: what one changes of the model, all then see."""
    barrier = threading.Barrier(count)

    def wait(*_):
        barrier.wait(60)

    handle = module.register_forward_pre_hook(wait)
    try:
        yield
    finally:
        handle.remove()


@given(st.lists(st.integers(1, 700), min_size=1, max_size=20), st.integers(1, 9))
def test_runs_are_of_consecutive_rows_with_about_equally_many_tokens(lengths, threads):
    runs = lanes.lanes(torch.tensor(lengths), threads)
    assert [row for first, last in runs for row in range(first, last)] == list(range(len(lengths)))
    assert all(first < last for first, last in runs)
    assert threads % len(runs) == 0, "a thread has nothing to do"
    if len(runs) > 1:
        most = max(sum(lengths[first:last]) for first, last in runs)
        assert sum(lengths) / len(runs) >= (lanes.PAIR if threads == 2 else lanes.LEAST)
        assert most <= lanes.UNEVEN * sum(lengths) / len(runs)


@pytest.mark.parametrize(
    ("lengths", "threads", "runs"),
    [
        ([200, 220, 210, 190], 2, [(0, 2), (2, 4)]),
        ([200, 220, 210, 190], 8, [(0, 2), (2, 4)]),
        ([100, 110, 105, 95], 8, [(0, 4)]),
        ([25, 25], 2, [(0, 1), (1, 2)]),
        ([24, 25], 2, [(0, 2)]),
        ([300] * 4, 8, [(0, 1), (1, 2), (2, 3), (3, 4)]),
        ([200, 220], 2, [(0, 1), (1, 2)]),
        ([200, 220, 210, 190], 4, [(0, 2), (2, 4)]),
        ([2000, 100, 100], 2, [(0, 3)]),
        ([300] * 5, 8, [(0, 2), (2, 5)]),
        ([300] * 5, 1, [(0, 5)]),
        ([250, 250, 500, 500, 400, 500], 6, [(0, 3), (3, 4), (4, 6)]),  # one of six would have none
    ],
)
def test_batches_are_divided_where_it_is_worth_it(lengths, threads, runs):
    assert lanes.lanes(torch.tensor(lengths), threads) == runs


def test_rows_that_generate_are_dealt_to_lanes_of_enough_of_them():
    lengths = [*range(100, 116)]
    assert lanes.dealt(lengths, 2) == [[*range(0, 16, 2)], [*range(1, 16, 2)]]
    assert lanes.dealt(lengths, 8) == lanes.dealt(lengths, 2)
    for few in (lengths[:15], [3] * 16, [2000, *[10] * 15]):
        assert lanes.dealt(few, 2) == [[*range(len(few))]]
    assert lanes.dealt(lengths, 1) == lanes.dealt(lengths, 3) == [[*range(16)]]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=70), st.integers(1, 20), st.integers(1, 6))
def test_two_batches_of_answers_come_together_only_where_no_pass_has_more_rows(lengths, batch, threads):
    calls = answer_batches(lengths, batch, threads)
    assert sorted(row for rows in calls for row in rows) == [*range(len(lengths))]
    for rows in calls:
        assert max(map(len, lanes.dealt([lengths[row] for row in rows], threads))) <= batch
    if threads == 1:
        assert all(len(rows) <= batch for rows in calls)


def test_a_host_says_how_many_passes_it_may_have_beside_each_other():
    host = LocalLM(random_model("llama", ATTENTION), "weights")
    torch.set_num_threads(2)
    assert host.info().lanes == 2
    host.ragged = False
    assert host.info().lanes == 1


def test_threads_are_shared_and_given_back_also_after_an_error():
    torch.set_num_threads(4)
    assert lanes.side_by_side(lambda run: (run, torch.get_num_threads()), [1, 2]) == [(1, 2), (2, 2)]
    ended = []

    def fails_at_once(seconds):
        time.sleep(seconds)
        ended.append(seconds)
        return 1 / seconds

    with pytest.raises(ZeroDivisionError):
        lanes.side_by_side(fails_at_once, [0, 0.2])
    assert ended == [0, 0.2], "a pass still uses the model"
    assert torch.get_num_threads() == 4


def test_nothing_runs_on_when_a_thread_cannot_be_started(monkeypatch):
    pool, ended = lanes._pool(), []
    submit = pool.submit

    def submitted(work, run):
        if run == 1:
            raise RuntimeError("can't start new thread")
        return submit(work, run)

    def slow(run):
        time.sleep(0.1)
        ended.append(run)

    monkeypatch.setattr(pool, "submit", submitted)
    torch.set_num_threads(4)
    with pytest.raises(RuntimeError, match="new thread"):
        lanes.side_by_side(slow, [0, 1])
    before = [*ended]  # it may not have begun
    time.sleep(0.2)
    assert ended == before, "a pass still uses the model"
    assert torch.get_num_threads() == 4
    assert lanes.side_by_side(lambda run: run, [0, 1]) == [0, 1], "the next passes have other threads"


EACH_TIME = ("gemma3", "gpt2", "llama")
others = [
    pytest.param(family, marks=pytest.mark.faults)
    for family in sorted({*FAMILIES, *OTHER_FAMILIES} - {*EACH_TIME, "falcon"})
]


@pytest.mark.parametrize("family", [*EACH_TIME, *others])
def test_losses_and_gradients_are_those_of_one_pass(family, monkeypatch):
    monkeypatch.setattr(lanes, "PAIR", 1)
    monkeypatch.setattr(lanes, "FEWEST", 1)
    monkeypatch.setattr(lanes, "UNEVEN", 2)
    monkeypatch.setattr(causal_chunks, "LEAST", 3)
    host = LocalLM(random_model(family, ATTENTION), "weights")
    batch = example_batch(host.info())
    steady = host._regimes.longest is None
    runs = lanes.lanes(batch.lengths, 2) if steady else [()]
    assert len(runs) == (2 if steady else 1)
    for name, prompt in example_prompts(host).items():
        host.ragged = False
        right = host.loss(prompt, batch, grad=True)
        host.ragged = True
        torch.set_num_threads(2)
        with met(host._blocks.layers[0], len(runs)):
            found, again = host.loss(prompt, batch, grad=True), host.loss(prompt, batch, grad=True)
            written = host.generate(prompt, unlabelled(batch), max_new=MAX_NEW, stop=frozenset())
        torch.set_num_threads(1)
        assert written == host.generate(prompt, unlabelled(batch), max_new=MAX_NEW, stop=frozenset()), name
        assert torch.equal(found.nll, again.nll), name
        assert torch.equal(found.tokens, right.tokens)
        # float32, sums in another order.
        assert apart(found.nll, right.nll) <= 1e-5, name
        for place, gradient in right.gradient.items():
            assert torch.equal(found.gradient[place], again.gradient[place]), f"{name}, {place.name}"
            assert apart(found.gradient[place], gradient) <= 1e-4, f"{name}, {place.name}"


def test_requests_that_share_a_pass_are_divided_too(monkeypatch):
    monkeypatch.setattr(lanes, "PAIR", 1)
    monkeypatch.setattr(lanes, "UNEVEN", 2)
    host = LocalLM(random_model("llama", ATTENTION), "weights")
    batch = example_batch(host.info())
    for prompt in example_prompts(host).values():
        shifted = [{place: shift + v for place, v in prompt.items()} for shift in (0.0, 0.1, -0.2)]
        requests = [Request(each, batch, grad=True) for each in shifted]
        alone = [host.loss(each, batch, grad=True) for each in shifted]
        torch.set_num_threads(2)
        with met(host._blocks.layers[0], 2):
            together = host.loss_many(requests)
        torch.set_num_threads(1)
        for found, right in zip(together, alone, strict=True):
            assert apart(found.nll, right.nll) <= 1e-5
            assert all(apart(found.gradient[place], g) <= 1e-4 for place, g in right.gradient.items())
