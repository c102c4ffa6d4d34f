"""Geometry in few numbers, against sums by hand."""

from __future__ import annotations

import pytest

from softprior.results.means import over_places
from softprior.results.records import PlaceGeometry


def place(**values: float | None) -> PlaceGeometry:
    known = dict.fromkeys(PlaceGeometry.model_fields, 1.0)
    return PlaceGeometry(**{**known, "initial_radius": None, "final_radius": None, **values})


def test_means_leave_out_places_without_a_number_and_radii_are_the_first_places() -> None:
    deep = place(moved=1.0, reach=None, moved_over_reach=None, cosine=0.5)
    first = place(moved=2.0, reach=4.0, moved_over_reach=0.5, cosine=None)
    first = first.model_copy(update={"initial_radius": 0.2, "final_radius": 0.9})
    second = place(moved=6.0, reach=8.0, moved_over_reach=0.75, initial_radius=0.3, final_radius=1.0)
    found = over_places({"deep": deep, "first": first, "second": second})
    assert found["moved"] == pytest.approx((1 + 2 + 6) / 3)
    assert found["reach"] == pytest.approx((4 + 8) / 2)
    assert found["moved_over_reach"] == pytest.approx((0.5 + 0.75) / 2)
    assert found["cosine"] == pytest.approx((0.5 + 1) / 2)
    assert (found["initial_radius_quantile"], found["final_radius_quantile"]) == (0.2, 0.9)


def test_what_no_place_has_is_null_and_a_baseline_has_nothing() -> None:
    found = over_places({"only": place(reach=None, moved_over_reach=None)})
    assert found["reach"] is found["moved_over_reach"] is found["final_radius_quantile"] is None
    assert over_places({}) == {}
