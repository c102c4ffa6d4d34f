"""One MLflow run for a job that has no trials: numbers by depth, and files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from softprior.errors import hidden
from softprior.results.storage import Location
from softprior.tracking.client import BATCH, open_experiment, problem_of
from softprior.tracking.clock import end_run, now

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "softprior.run"
NUMBERS = "softprior.numbers"
"""Tags of a run: the work it belongs to, and a hash of its metrics."""


def log_run(
    uri: str,
    results: Location,
    name: str,
    key: str,
    facts: Mapping[str, str],
    parameters: Mapping[str, object],
    metrics: Mapping[str, Mapping[int, float]],
    files: Iterable[Path],
    *,
    whole: bool,
) -> str | None:
    """Writes a run, or writes it again: there is one per key, however often this is called.

    MLflow keeps old points beside new ones, so a run with other numbers is deleted and created again.

    Args:
        results: the folder that contains the results folders of all jobs.
        key: identifies the work.
        facts: versions and fingerprints, as tags.
        metrics: values by name and step.
        files: files that become artifacts; folders with all their contents.
        whole: whether the work was done without a failure.

    Returns:
        What went wrong, or None. The results folder has everything, so this need not stop the work.
    """
    try:
        client, experiment, _ = open_experiment(uri, f"softprior/{name}", results)
        digest = hashlib.sha256(json.dumps(metrics, sort_keys=True).encode()).hexdigest()
        run = _found(client, experiment, name, {KEY: key, NUMBERS: digest})
        client.update_run(run, status="RUNNING")
        for tag, value in facts.items():
            client.set_tag(run, tag, value)
        known = client.get_run(run)
        for parameter, given in parameters.items():
            if parameter not in known.data.params:
                client.log_param(run, parameter, hidden(str(given))[:6000])
        _log_metrics(client, run, metrics)
        for path in files:
            (client.log_artifacts if path.is_dir() else client.log_artifact)(run, str(path))
        end_run(client, run, "FINISHED" if whole else "FAILED", known.info.start_time)
    except Exception as error:  # MLflow raises whatever its database, its server or the network raise
        return problem_of(error)
    return None


def _found(client: MlflowClient, experiment: str, name: str, tags: dict[str, str]) -> str:
    """The run with these tags; those of the same work with other numbers are deleted."""
    for run in client.search_runs([experiment], filter_string=f"tags.`{KEY}` = '{tags[KEY]}'"):
        if run.data.tags.get(NUMBERS) == tags[NUMBERS]:
            return str(run.info.run_id)
        client.delete_run(run.info.run_id)
    return str(client.create_run(experiment, start_time=now(), run_name=name, tags=tags).info.run_id)


def _log_metrics(client: MlflowClient, run: str, metrics: Mapping[str, Mapping[int, float]]) -> None:
    """Those that the run does not have yet: MLflow would keep both."""
    from mlflow.entities import Metric

    known = client.get_run(run).data.metrics
    at = now()
    new = [
        Metric(name, float(value), at, step)
        for name, values in metrics.items()
        if name not in known
        for step, value in values.items()
    ]
    for start in range(0, len(new), BATCH):
        client.log_batch(run, metrics=new[start : start + BATCH])
