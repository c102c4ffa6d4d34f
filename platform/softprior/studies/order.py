"""The order in which planned trials run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from softprior.inputs.specs import TrialSpec


def starts_first(trials: Iterable[TrialSpec]) -> list[TrialSpec]:
    """Every start once before any start again, repeated trials last; otherwise in the order given.

    Trials that start from the same sample take its losses from the first of them. Beside each other they
    would wait for one another instead.
    """
    met: Counter[tuple[object, ...]] = Counter()
    turns = []
    for trial in trials:
        prior = None if trial.prior is None else trial.prior.canonical()
        start = (trial.method.canonical(), trial.task.canonical(), prior, trial.prior_fingerprint, trial.seed)
        turns.append((trial.repeat is not None, met[start], trial))
        met[start] += 1
    return [trial for *_, trial in sorted(turns, key=lambda turn: turn[:2])]
