"""Steps at which a trial validates and keeps its vectors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from softprior.training.chosen_steps import evenly, log_spaced


@given(steps=st.integers(1, 300), count=st.integers(1, 2**31 - 1))
def test_no_more_steps_are_chosen_than_there_are(steps: int, count: int) -> None:
    """However many are asked for: it takes no time or memory for those that cannot be."""
    found = evenly(steps, count)
    assert len(found) == min(steps, count)
    assert found <= set(range(1, steps + 1))
    assert steps in found
    assert log_spaced(steps, count) <= set(range(1, steps))


@given(steps=st.integers(1, 60), count=st.integers(1, 2000))
def test_any_larger_number_chooses_every_step(steps: int, count: int) -> None:
    if count >= steps:
        assert evenly(steps, count) == set(range(1, steps + 1))
    if count >= steps**2:
        assert log_spaced(steps, count) == set(range(1, steps))
