"""Values made of numbers: what has no form in JSON is None, and fields are checked."""

import math

import pytest
from pydantic import ValidationError

from softprior.results.numbers import Number, Numbers


class Measured(Numbers):
    count: int
    mean: Number
    ends: tuple[Number, Number] = (None, None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_number(value: float) -> None:
    found = Measured(count=1, mean=value, ends=(value, 2.0))
    assert (found.mean, found.ends) == (None, (None, 2.0))
    assert Measured.model_validate_json(found.model_dump_json()) == found


def test_amended_values_are_checked_like_the_first_ones() -> None:
    found = Measured(count=1, mean=0.5)
    assert found.amended(mean=math.nan) == Measured(count=1, mean=None)
    assert found.mean == 0.5
    for wrong in ({"mode": 1.0}, {"count": 1.5}):
        with pytest.raises(ValidationError):
            found.amended(**wrong)
