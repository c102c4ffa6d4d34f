"""What people see of trials that come from their records."""

from __future__ import annotations

from softprior.inputs.labels import labels
from softprior.inputs.specs import TrialSpec
from softprior.methods import METHODS
from softprior.priors import PRIORS
from softprior.regularisers import REGULARISERS
from softprior.tasks import TASKS


def recognised(trial: TrialSpec) -> TrialSpec:
    """The trial, shown with its components' own names and without defaults; records have no labels."""
    also = tuple(map(TASKS.recognised, trial.evaluation.also))
    return trial.model_copy(
        update={
            "evaluation": trial.evaluation.model_copy(update={"also": also}),
            "task": TASKS.recognised(trial.task),
            "method": METHODS.recognised(trial.method),
            "prior": None if trial.prior is None else PRIORS.recognised(trial.prior),
            "regularisers": tuple(map(REGULARISERS.recognised, trial.regularisers)),
        }
    )


def own_label(trial: TrialSpec) -> str:
    """A trial's axes in words, without what distinguishes it from other trials of a study."""
    return labels([recognised(trial)])[trial.id]
