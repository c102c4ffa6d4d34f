"""The order in which planned trials run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from softprior.inputs.specs import TrialSpec


def starts_first(trials: Iterable[TrialSpec], beside: bool = False) -> list[TrialSpec]:
    """Every start once before any start again, repeated trials last; otherwise in the order given.

    Trials that start from the same sample take its losses from the first of them. Beside each other they
    would wait for one another instead.

    Args:
        beside: whether several trials run at a time. The first worker is there seconds before the others, so
            the first of the trials that train, which take longest, comes before the baselines.
    """
    met: Counter[tuple[object, ...]] = Counter()
    turns = []
    for trial in trials:
        prior = None if trial.prior is None else trial.prior.canonical()
        start = (trial.method.canonical(), trial.task.canonical(), prior, trial.prior_fingerprint, trial.seed)
        turns.append((trial.repeat is not None, met[start], trial))
        met[start] += 1
    ordered = [trial for *_, trial in sorted(turns, key=lambda turn: turn[:2])]
    trained = next((i for i, trial in enumerate(ordered) if trial.training is not None), 0) if beside else 0
    return [*ordered[trained : trained + 1], *ordered[:trained], *ordered[trained + 1 :]]
