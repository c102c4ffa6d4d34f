"""Posteriors as MLflow's logged models, which `search_logged_models` finds by prior and loss."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from softprior.inputs.specs import TrialSpec
from softprior.tracking.contents import repeat_tag
from softprior.tracking.view import TRIAL

if TYPE_CHECKING:
    from mlflow import MlflowClient

TYPE = "softprior posterior"
"""Type of these models, in MLflow's words."""

REFUSED = r"[/:.%\"']"
"""Characters that a model's name must not have."""

FILE = "softprior.file"
"""Tag: where the posterior is, as the run's artifact; it is not kept twice."""


def posterior_of(
    client: MlflowClient, experiment: str, run: str, trial: TrialSpec, parameters: dict[str, str]
) -> str:
    """The id of the model of a trial's posterior, which is made if there is none.

    Metrics that name this id are its own as well as the run's.

    Args:
        run: that has the posterior among its artifacts.
        parameters: of the trial, by which the model is found.
    """
    known = posteriors_of(client, experiment, run)
    if known:
        return known[0]
    assert trial.prior is not None
    made = client.create_logged_model(
        experiment,
        name=f"{re.sub(REFUSED, '_', trial.prior.name)}-{trial.id[:12]}",
        source_run_id=run,
        tags={TRIAL: trial.id, FILE: f"runs:/{run}/{trial.id}.safetensors", **repeat_tag(trial)},
        params=parameters,
        model_type=TYPE,
    )
    client.finalize_logged_model(made.model_id, "READY")
    return str(made.model_id)


def posteriors_of(client: MlflowClient, experiment: str, run: str) -> list[str]:
    """The ids of the models that a run has made."""
    found = client.search_logged_models([experiment], filter_string=f"source_run_id = '{run}'")
    return [str(model.model_id) for model in found]
