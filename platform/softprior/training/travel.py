"""How far the vectors of a place have moved, and what the set of them looks like afterwards."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from softprior.results.records import PlaceGeometry
from softprior.statistics import geometry
from softprior.training.source import SeenSource


def place_geometry(
    source: SeenSource, start: Float[Tensor, "P H"], end: Float[Tensor, "P H"], reach: float | None
) -> PlaceGeometry:
    """The numbers of one place.

    Args:
        source: the model, seen from the place.
        start, end: as the prompt has them, keys turned to their positions.
        reach: see `geometry.reach`; None for reparameterised prompts.
    """
    moved = float(geometry.distance_moved(start, end).mean())
    start, end = source.unplaced(start), source.unplaced(end)
    seen = source.seen(end)
    return PlaceGeometry(
        moved=moved,
        reach=reach,
        moved_over_reach=None if reach is None else moved / reach,
        initial_norm=float(start.double().norm(dim=1).mean()),
        final_norm=float(end.double().norm(dim=1).mean()),
        cosine=_or_none(geometry.mean_pairwise_cosine(seen)),
        participation=_or_none(geometry.participation_ratio(seen)),
        initial_radius=float(source.quantiles(start).mean()) if source.known else None,
        final_radius=float(source.quantiles(end).mean()) if source.known else None,
    )


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
