"""How far trials and their repetitions end apart: twins by rounding, reordered trials by the data's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from softprior.inputs.labels import counted
from softprior.inputs.specs import Repeat
from softprior.results.records import Record

if TYPE_CHECKING:
    import pandas as pd


def pairs_table(
    records: Mapping[str, Record], repeats: Mapping[str, Record], labels: Mapping[str, str], kind: Repeat
) -> pd.DataFrame:
    """One row per finished trial with a finished repetition.

    Args:
        records, repeats: by their own ids.
        kind: of the repetitions, which two of the columns are named after.
    """
    import pandas as pd

    rows = []
    for other in repeats.values():
        one = records.get(other.spec.original or "")
        if one is not None and one.test is not None and other.test is not None:
            losses = one.test.loss, other.test.loss
            rows.append((one.id, other.id, labels[one.id], *losses, abs(losses[0] - losses[1])))
    return pd.DataFrame(rows, columns=["trial", kind, "label", "test_loss", f"{kind}_test_loss", "apart"])


def in_words(apart: Sequence[float], what: str = "twins") -> str:
    """The line about the twins of a study, or its reordered trials; empty where there are none.

    Args:
        apart: see `Results.pairs`.
        what: what they are called.
    """
    if not len(apart):
        return ""
    import numpy as np

    most, middle = float(np.max(apart)), float(np.median(apart))
    return (
        f"{what}: {counted(len(apart), 'pair')}, test losses apart by at most {most:.2g} nats "
        f"(median {middle:.2g})"
    )
