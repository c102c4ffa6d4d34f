"""How far trials and their twins end apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from softprior.inputs.labels import counted
from softprior.results.records import Record

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("trial", "twin", "label", "test_loss", "twin_test_loss", "apart")


def pairs_table(
    records: Mapping[str, Record], twins: Mapping[str, Record], labels: Mapping[str, str]
) -> pd.DataFrame:
    """One row per finished trial with a finished twin.

    Args:
        records, twins: by their own ids.
    """
    import pandas as pd

    rows = []
    for twin in twins.values():
        one = records.get(twin.spec.original or "")
        if one is not None and one.test is not None and twin.test is not None:
            losses = one.test.loss, twin.test.loss
            rows.append((one.id, twin.id, labels[one.id], *losses, abs(losses[0] - losses[1])))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def in_words(apart: Sequence[float]) -> str:
    """The line about the twins of a study; empty where there are none.

    Args:
        apart: see `Results.pairs`.
    """
    if not len(apart):
        return ""
    import numpy as np

    most, middle = float(np.max(apart)), float(np.median(apart))
    return (
        f"twins: {counted(len(apart), 'pair')}, test losses apart by at most {most:.2g} nats "
        f"(median {middle:.2g})"
    )
