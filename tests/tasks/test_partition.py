"""Splits, orders and donors."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprior.tasks.base import SPLITS
from softprior.tasks.partition import (
    donors,
    keyed_order,
    round_robin,
    split_in_halves,
    split_in_order,
    split_of,
)


@given(st.sets(st.text(max_size=8), min_size=3, max_size=60))
def test_every_split_has_a_key(keys):
    assert set(split_in_order(keys).values()) == set(SPLITS)
    assert set(split_in_halves(keys).values()) == {"validation", "test"}


def test_shares_by_hash():
    found = Counter(split_of(str(i)) for i in range(10_000))
    assert {split: round(found[split], -3) for split in SPLITS} == {
        "train": 8000,
        "validation": 1000,
        "test": 1000,
    }


def test_serialised_choices_do_not_change():
    # Frozen: another order would give every study other examples under the same id.
    assert keyed_order("abcdefgh", "order") == keyed_order(reversed("abcdefgh"), "order")
    assert "".join(keyed_order("abcdefgh", "order")) == "cdagbehf"
    assert [split_of(key) for key in "abcdefgh"] == [
        "train",
        "test",
        "train",
        "train",
        "train",
        "train",
        "test",
        "validation",
    ]


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40))
def test_donors_give_another_context(contexts):
    found = donors(contexts)
    if len(set(contexts)) < 2:
        assert found is None
        return
    assert all(contexts[giver] != contexts[i] for i, giver in enumerate(found))
    if max(Counter(contexts).values()) * 2 <= len(contexts):
        assert sorted(found) == list(range(len(contexts)))


def test_donors_are_of_about_the_same_length():
    contexts = ["x" * n for n in range(1, 201)]
    found = donors(contexts)
    far = [i for i, giver in enumerate(found) if abs(giver - i) > 1]
    assert len(far) == 1


@pytest.mark.parametrize(
    ("lists", "flat"), [([], []), ([[1, 2, 3], [], [4]], [1, 4, 2, 3]), ([[0], [False]], [0, False])]
)
def test_round_robin(lists, flat):
    assert round_robin(lists) == flat
