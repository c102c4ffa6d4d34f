"""Where the variance of a result comes from: method of moments on crossed tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from analysis.inference.intervals import mean_squares


@dataclass(frozen=True, kw_only=True)
class Components:
    """Variances, in squared units of the numbers; estimates without bias, which are below zero at times.

    Attributes:
        rows: between rows, such as seeds.
        columns: between columns, such as examples (groups of them).
        rest: between cells beyond both; of training on examples that is their interaction and noise.
        rounding: of training amplifying rounding, from twins, a part of `rows`; None without twins.
        order: of the data's order, from reordered trials, a part of `rows` with rounding in it; None without
            such trials.
    """

    rows: float
    columns: float
    rest: float
    rounding: float | None = None
    order: float | None = None

    def shares(self) -> dict[str, float]:
        """Parts of one cell's variance, see `shares_of`."""
        return shares_of({"rows": self.rows, "columns": self.columns, "rest": self.rest})


def shares_of(parts: Mapping[str, float]) -> dict[str, float]:
    """Estimated variances over their sum, those below zero as zero; all zero where nothing varies.

    No other part is changed for one that is below zero. Whoever takes its shortfall off another part, so that
    all add up, makes that one too small in every study in which this happens, and hides that the data do not
    tell the two apart.
    """
    shown = {name: max(0.0, part) for name, part in parts.items()}
    total = sum(shown.values())
    return {name: part / total if total else 0.0 for name, part in shown.items()}


def components(
    table: Float[np.ndarray, "A B"],
    twins: Float[np.ndarray, "T 2"] | None = None,
    reordered: Float[np.ndarray, "N B"] | None = None,
) -> Components:
    """Variance components of a table with one number in each cell, both factors random.

    Args:
        table: results by seed and example (`by_group`); two of each at least.
        twins: results of trainings that differ by rounding alone, in the units of a row's mean.
        reordered: by pair and example, a row less that of the same start trained with another order.
    """
    rows, columns = table.shape
    of_rows, of_columns, rest = mean_squares(table)
    rounding = None if twins is None else float(np.mean((twins[:, 0] - twins[:, 1]) ** 2) / 2)
    return Components(
        rows=(of_rows - rest) / columns,
        columns=(of_columns - rest) / rows,
        rest=rest,
        rounding=rounding,
        order=None if reordered is None else _order(reordered),
    )


def _order(differences: Float[np.ndarray, "N B"]) -> float:
    """Half the mean squared difference of pairs, less what single examples add to the difference of means."""
    noise = differences.var(1, ddof=1) / differences.shape[1]
    return float(np.mean(differences.mean(1) ** 2 - noise) / 2)
