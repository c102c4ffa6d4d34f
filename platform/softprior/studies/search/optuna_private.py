"""What softprior uses of Optuna's private parts, all of it; checked on Optuna 5.0.0.

None of it is promised to stay. `tests/test_private_parts.py` says which part another version has changed.
"""

from __future__ import annotations

from typing import Any

from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution


def unit_cube(space: dict[str, BaseDistribution]) -> _SearchSpaceTransform:
    """Parameters as points of [0, 1]^n and back, logarithms and steps included: where CMA-ES searches."""
    return _SearchSpaceTransform(space, transform_step=True, transform_0_1=True)


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a parameter can have this value.

    Raises:
        TypeError, ValueError: the value is of another kind.
    """
    return bool(distribution._contains(distribution.to_internal_repr(value)))
