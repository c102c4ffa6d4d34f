"""Correction of p-values for their number."""

from __future__ import annotations

from collections.abc import Sequence

from statsmodels.stats.multitest import multipletests


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the same order."""
    if not values:
        return []
    return [float(value) for value in multipletests(values, method="holm")[1]]
