"""Batches: every example, by length, resumable."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprior.tasks.batching import evaluation_batches, training_batches

LENGTHS = np.random.default_rng(0).integers(20, 300, 500).tolist()


@given(st.integers(1, 70), st.integers(1, 12), st.integers(0, 5))
def test_an_epoch_has_every_example_at_most_once_and_leaves_out_less_than_a_batch(number, batch, seed):
    batches = list(islice(training_batches(list(range(number)), batch, seed), max(1, number // batch)))
    seen = [index for indices in batches for index in indices]
    assert len(set(seen)) == len(seen) > number - batch
    assert {len(indices) for indices in batches} == {min(batch, number)}


def test_what_one_epoch_leaves_out_another_has():
    batches = list(islice(training_batches(LENGTHS[:21], 8, 0), 10))
    assert {index for indices in batches for index in indices} == set(range(21))


def test_it_resumes_at_any_step():
    whole = list(islice(training_batches(LENGTHS, 8, 3), 150))
    assert list(islice(training_batches(LENGTHS, 8, 3), 77, 150)) == whole[77:]


def test_the_seed_and_the_epoch_decide_the_order():
    epoch = len(LENGTHS) // 8
    first, second = (list(islice(training_batches(LENGTHS, 8, seed), 2 * epoch)) for seed in (0, 1))
    assert first != second
    assert first[:epoch] != first[epoch:]


def test_batches_are_of_one_length_and_in_no_order_of_length():
    batches = list(islice(training_batches(LENGTHS, 8, 0), len(LENGTHS) // 8))
    padded = sum(max(LENGTHS[i] for i in batch) * len(batch) for batch in batches)
    real = sum(LENGTHS[i] for batch in batches for i in batch)
    assert padded < 1.1 * real
    means = [np.mean([LENGTHS[i] for i in batch]) for batch in batches]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.4


def test_no_examples():
    with pytest.raises(ValueError, match="no examples"):
        next(training_batches([], 8, 0))


@given(st.lists(st.integers(1, 400), max_size=60), st.integers(1, 9))
def test_evaluation_has_every_example_once_in_order_of_length(lengths, batch):
    batches = evaluation_batches(lengths, batch)
    order = [index for indices in batches for index in indices]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[index] for index in order] == sorted(lengths)
    assert all(len(indices) == batch for indices in batches[:-1])
