"""Where the vectors of every trained prompt went, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from softprior.results.records import PlaceGeometry, Record

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("trial", "label", "place", *PlaceGeometry.model_fields)


def geometry_table(records: Mapping[str, Record], labels: Mapping[str, str]) -> pd.DataFrame:
    """One row per trial and place, with the fields of `records.PlaceGeometry`."""
    import pandas as pd

    rows = [
        (i, labels[i], place, *(getattr(found, name) for name in PlaceGeometry.model_fields))
        for i, record in records.items()
        for place, found in record.geometry.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))
