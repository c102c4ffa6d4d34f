"""Which trial is started next."""

from __future__ import annotations

from types import SimpleNamespace

from softprior.studies.turns import Turns


def chosen(turns: Turns, statuses: str) -> int | None:
    """Index of the trial that is chosen, from the first letters of all trials' statuses."""
    names = {"P": "PENDING", "R": "RUNNING", "T": "TERMINATED"}
    trials = [SimpleNamespace(status=names[letter]) for letter in statuses]
    found = turns.choose_trial_to_run(SimpleNamespace(get_trials=lambda: trials))
    return next((at for at, trial in enumerate(trials) if trial is found), None)


def test_a_free_worker_leaves_the_trial_of_one_that_starts_alone() -> None:
    turns = Turns(2)
    assert chosen(turns, "PP") == 0
    assert chosen(turns, "RPP") == 2
    assert chosen(turns, "TPP") == 2  # the second worker is about to run the second trial
    assert chosen(turns, "TPRP") == 3
    assert chosen(turns, "TPTT") == 1  # nothing else is left
    assert chosen(turns, "TTTT") is None


def test_a_worker_that_does_not_start_is_not_waited_for_for_ever() -> None:
    turns = Turns(2, longest=0)
    assert chosen(turns, "RPP") == 1
    assert chosen(turns, "TPP") == 1


def test_trials_run_in_their_order_once_all_workers_are_there() -> None:
    turns = Turns(2)
    assert chosen(turns, "RRPP") == 2
    assert chosen(turns, "TRPP") == 2
    assert chosen(turns, "TTPP") == 2
