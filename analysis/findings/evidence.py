"""What a claim takes from a study, before any verdict: one number per seed, and why there may be none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from analysis.inference.values import PerExample


class Noise(NamedTuple):
    """What rounding alone does to a number.

    Attributes:
        value: root mean square of the differences between trials and their twins.
        twins: ids of these twins.
    """

    value: float
    twins: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The numbers of one claim in one cell.

    Attributes:
        where: see `Finding.where`.
        numbers: one number per seed, by comparison or by metric.
        trials: ids of the trials that each of the numbers comes from, by the same names.
        missing: why there are no numbers, and after a semicolon what would give some; empty if there are.
        guard: why the claim stays undecided whatever the numbers say, in the same form.
        margin: of equality, in nats.
        margin_trials: ids of the trials that the margin comes from, the baseline among them.
        tested: what is tested in place of the numbers where that differs, by the same names.
        lost: number of tests that are missing with the posteriors or the sample of the vocabulary.
        primary: names of the comparisons with the reference; empty if all count.
        examples: the same differences by example, where they are known.
        rates, budget: see `Finding`.
        noise: see `Finding`, with the twins that it comes from.
    """

    where: str
    numbers: Mapping[str, Float[np.ndarray, "S"]] = field(default_factory=dict)
    trials: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    missing: str = ""
    guard: str = ""
    lost: int = 0
    margin: float | None = None
    margin_trials: tuple[str, ...] = ()
    tested: Mapping[str, Float[np.ndarray, "S"]] = field(default_factory=dict)
    primary: tuple[str, ...] = ()
    examples: Mapping[str, PerExample] = field(default_factory=dict)
    rates: Mapping[str, str] = field(default_factory=dict)
    budget: Mapping[str, int] = field(default_factory=dict)
    noise: Noise | None = None
