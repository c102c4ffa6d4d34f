"""Reordered trials: the same training from the same start, with another order of the data.

A seed gives both the draw of the prior and the order of the training examples. What a trial and its reordered
repetition end apart by comes from the order, and what seeds differ by beyond that from the draw.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from softprior.inputs.specs import TrialSpec
from softprior.seeding import derive

FIRST = 1
"""Which of a seed's other orders a study's reordered trials have."""


def reordered_of(trials: Iterable[TrialSpec], seeds: Collection[int]) -> list[TrialSpec]:
    """The reordered repetition of each trial that trains a prompt with one of these seeds."""
    return [
        trial.model_copy(update={"reordered": FIRST})
        for trial in trials
        if trial.training is not None and trial.seed in seeds
    ]


def order_seed(trial: TrialSpec) -> int:
    """The seed of the order of a trial's training examples.

    The trial's own, or one that no trial has as its own: if it were the next seed's, what two trials owe to
    one order would be in both of their differences. Like the trial's own, it is the same for all priors.
    """
    assert trial.seed is not None
    if trial.reordered is None:
        return trial.seed
    return derive(trial.seed, "reordered", trial.reordered)
