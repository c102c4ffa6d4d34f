"""What a study's trials have to do, as its plan counts it."""

from __future__ import annotations

from typing import Any

from softprior.inputs.specs import StudySpec
from softprior.studies.estimate import total_cost
from softprior.studies.plan import plan_study


def planned(study: dict[str, Any]) -> int:
    """Positions of texts in all passes of a study, and of prompts in training, its baseline included.

    Args:
        study: the file, as YAML gives it.
    """
    plan = plan_study(StudySpec.model_validate(study))
    cost = total_cost(plan.trials, plan.components)
    return cost.trained + cost.evaluated
