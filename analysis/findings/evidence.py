"""What a claim takes from a study, before any verdict: one number per seed, and why there may be none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The numbers of one claim in one cell.

    Attributes:
        where: see `Finding.where`.
        numbers: one number per seed, by comparison or by metric.
        missing: why there are no numbers, and after a semicolon what would give some; empty if there are.
        guard: why the claim stays undecided whatever the numbers say, in the same form.
        margin: of equality, in nats.
        tested: what is tested in place of the numbers where that differs, by the same names.
        primary: names of the comparisons with the reference; empty if all count.
        rates, budget, noise: see `Finding`.
    """

    where: str
    numbers: Mapping[str, Float[np.ndarray, "S"]] = field(default_factory=dict)
    missing: str = ""
    guard: str = ""
    margin: float | None = None
    tested: Mapping[str, Float[np.ndarray, "S"]] = field(default_factory=dict)
    primary: tuple[str, ...] = ()
    rates: Mapping[str, str] = field(default_factory=dict)
    budget: Mapping[str, int] = field(default_factory=dict)
    noise: float | None = None
