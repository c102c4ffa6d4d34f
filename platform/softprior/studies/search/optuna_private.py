"""What softprior uses of Optuna's private parts, all of it; checked on Optuna 5.0.0.

None of it is promised to stay. `tests/test_private_parts.py` says which part another version has changed.
"""

from __future__ import annotations

from typing import Any

from optuna import Study, Trial
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial


def unit_cube(space: dict[str, BaseDistribution]) -> _SearchSpaceTransform:
    """Parameters as points of [0, 1]^n and back, logarithms and steps included: where CMA-ES searches."""
    return _SearchSpaceTransform(space, transform_step=True, transform_0_1=True)


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a parameter can have this value.

    Raises:
        TypeError, ValueError: the value is of another kind.
    """
    return bool(distribution._contains(distribution.to_internal_repr(value)))


def taken_up(study: Study, found: FrozenTrial) -> Trial:
    """A running trial of a process that ended, to go on with."""
    return Trial(study, found._trial_id)


def storage_of(study: Study) -> BaseStorage:
    """Where a study is, with its values as they were stored."""
    return study._storage


def store_loss(study: Study, number: int, step: int, loss: float) -> None:
    """Stores a point of the curve of a trial, which this process need not have asked for."""
    storage_of(study).set_trial_intermediate_value(_identifier(study, number), step, loss)


def store_attribute(study: Study, number: int, name: str, value: str) -> None:
    """Stores an attribute of a trial, which this process need not have asked for."""
    storage_of(study).set_trial_user_attr(_identifier(study, number), name, value)


def _identifier(study: Study, number: int) -> int:
    return storage_of(study).get_trial_id_from_study_id_trial_number(study._study_id, number)
