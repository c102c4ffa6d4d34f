"""What a study's trials have to do, as its plan counts it."""

from __future__ import annotations

from typing import Any, NamedTuple

from softprior.inputs.specs import StudySpec
from softprior.studies.estimate import total_cost
from softprior.studies.plan import plan_study


class Work(NamedTuple):
    """Positions of texts and prompts in all passes of a study, and the operations of their products."""

    tokens: int
    operations: float


def planned(study: dict[str, Any]) -> Work:
    """The work of a study's trials, its baseline included: of the file, as YAML gives it."""
    plan = plan_study(StudySpec.model_validate(study))
    cost = total_cost(plan.trials, plan.components)
    assert plan.model.parameters is not None
    return Work(cost.trained + cost.evaluated, cost.flops(plan.model.parameters))
