"""What people see of trials that come from their records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from softprior.inputs.components import Table
from softprior.inputs.labels import labels, reshown
from softprior.inputs.specs import TrialSpec
from softprior.methods import METHODS
from softprior.priors import PRIORS
from softprior.regularisers import REGULARISERS
from softprior.tasks import TASKS

TABLES: Mapping[str, Table[Any]] = {
    "task": TASKS,
    "also": TASKS,
    "method": METHODS,
    "prior": PRIORS,
    "regularisers": REGULARISERS,
}
"""The components that entries name, by field of a trial; see `reshown`."""


def recognised(trial: TrialSpec) -> TrialSpec:
    """The trial, shown with its components' own names and without defaults; records have no labels."""
    return reshown(trial, lambda field, entry: TABLES[field].recognised(entry))


def own_label(trial: TrialSpec) -> str:
    """A trial's axes in words, without what distinguishes it from other trials of a study."""
    (label,) = labels([recognised(trial)]).values()  # a trial that is recognised may have another id
    return label
