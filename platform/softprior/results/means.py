"""A trial's geometry in few numbers: means over the places of its vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from softprior.results.records import PlaceGeometry

AVERAGED = (
    "moved",
    "reach",
    "moved_over_reach",
    "initial_norm",
    "final_norm",
    "cosine",
    "participation",
)
"""Fields of `PlaceGeometry` that are averaged."""


def over_places(geometry: Mapping[str, PlaceGeometry]) -> dict[str, float | None]:
    """Means over the places that have a number; None where none has one.

    `initial_radius_quantile` and `final_radius_quantile` are those of the first place that has them, which is
    the one at block 0: quantiles of other places are of other references.

    Returns:
        By name; empty without places.
    """
    places = list(geometry.values())
    if not places:
        return {}
    first = next((place for place in places if place.final_radius is not None), None)
    return {
        **{name: _mean(getattr(place, name) for place in places) for name in AVERAGED},
        "initial_radius_quantile": None if first is None else first.initial_radius,
        "final_radius_quantile": None if first is None else first.final_radius,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
