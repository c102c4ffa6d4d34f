"""softprior: how much does the prior of a trained prompt determine its posterior?

`import softprior as sp` imports nothing heavy: each name below is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from softprior.errors import UserError
    from softprior.inputs.specs import ModelSpec, StudySpec, TrialSpec
    from softprior.library.model import Model, Neighbour, load_model
    from softprior.library.results import Results
    from softprior.library.states import States
    from softprior.library.studies import load_study, plan, run, use_code
    from softprior.methods import METHODS, Method
    from softprior.priors import PRIORS, Distribution, Prior
    from softprior.prompt import Batch, Place, Row, collate
    from softprior.regularisers import REGULARISERS, Regulariser
    from softprior.results.posteriors import Posterior, load_posterior, save_posterior
    from softprior.results.records import Record
    from softprior.studies.observers import Work
    from softprior.studies.runner import InterruptedStudyError
    from softprior.tasks import TASKS, Task
    from softprior.training.events import Failed, Notice, Observer, Phase, Step, Validation

__version__ = "0.1.0"

_HOMES = {
    "softprior.errors": ("UserError",),
    "softprior.training.events": ("Failed", "Notice", "Observer", "Phase", "Step", "Validation"),
    "softprior.library.model": ("Model", "Neighbour", "load_model"),
    "softprior.library.states": ("States",),
    "softprior.library.results": ("Results",),
    "softprior.library.studies": ("load_study", "plan", "run", "use_code"),
    "softprior.methods": ("METHODS", "Method"),
    "softprior.results.posteriors": ("Posterior", "load_posterior", "save_posterior"),
    "softprior.priors": ("PRIORS", "Distribution", "Prior"),
    "softprior.prompt": ("Batch", "Place", "Row", "collate"),
    "softprior.results.records": ("Record",),
    "softprior.regularisers": ("REGULARISERS", "Regulariser"),
    "softprior.inputs.specs": ("ModelSpec", "StudySpec", "TrialSpec"),
    "softprior.studies.observers": ("Work",),
    "softprior.studies.runner": ("InterruptedStudyError",),
    "softprior.tasks": ("TASKS", "Task"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "METHODS",
    "PRIORS",
    "REGULARISERS",
    "TASKS",
    "Batch",
    "Distribution",
    "Failed",
    "InterruptedStudyError",
    "Method",
    "Model",
    "ModelSpec",
    "Neighbour",
    "Notice",
    "Observer",
    "Phase",
    "Place",
    "Posterior",
    "Prior",
    "Record",
    "Regulariser",
    "Results",
    "Row",
    "States",
    "Step",
    "StudySpec",
    "Task",
    "TrialSpec",
    "UserError",
    "Validation",
    "Work",
    "collate",
    "load_model",
    "load_posterior",
    "load_study",
    "plan",
    "run",
    "save_posterior",
    "use_code",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'softprior' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
