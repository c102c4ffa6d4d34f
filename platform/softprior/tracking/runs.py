"""One MLflow run for a job that has no trials: numbers by depth, and files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from softprior.tracking.client import ARTIFACTS, BATCH, connect

KEY = "softprior.run"


def log_run(
    uri: str,
    results: Path,
    name: str,
    key: str,
    facts: Mapping[str, str],
    parameters: Mapping[str, Any],
    metrics: Mapping[str, Mapping[int, float]],
    files: Iterable[Path],
) -> str | None:
    """Writes a run, or writes it again: there is one for a key, however often this is called.

    Args:
        results: the folder that holds the results folders of all jobs.
        key: identifies the work.
        facts: versions and fingerprints, as tags.
        metrics: by name the values, by step.
        files: become artifacts; a folder with all that is in it.

    Returns:
        What went wrong, or None. The results folder has everything, so nobody need stop for it.
    """
    try:
        client = connect(uri, results / ARTIFACTS)
        run = _found(client, uri, results, name, key)
        client.update_run(run, status="RUNNING")
        for tag, value in facts.items():
            client.set_tag(run, tag, value)
        known = client.get_run(run).data.params
        for parameter, value in parameters.items():
            if parameter not in known:
                client.log_param(run, parameter, str(value)[:6000])
        _log_metrics(client, run, metrics)
        for path in files:
            (client.log_artifacts if path.is_dir() else client.log_artifact)(run, str(path))
        client.set_terminated(run, status="FINISHED")
    except Exception as error:  # MLflow raises whatever its database, its server or the network raise
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return None


def _found(client: Any, uri: str, results: Path, name: str, key: str) -> str:
    experiment = client.get_experiment_by_name(f"softprior/{name}")
    if experiment is None:
        local = None if uri.startswith("http") else (results / ARTIFACTS).as_uri()
        number = str(client.create_experiment(f"softprior/{name}", artifact_location=local))
    else:
        number = str(experiment.experiment_id)
    runs = client.search_runs([number], filter_string=f"tags.`{KEY}` = '{key}'", max_results=1)
    if runs:
        return str(runs[0].info.run_id)
    return str(client.create_run(number, run_name=name, tags={KEY: key}).info.run_id)


def _log_metrics(client: Any, run: str, metrics: Mapping[str, Mapping[int, float]]) -> None:
    """Those that the run does not have yet: MLflow would keep both."""
    from mlflow.entities import Metric

    known = client.get_run(run).data.metrics
    now = int(time.time() * 1000)
    new = [
        Metric(name, float(value), now, step)
        for name, values in metrics.items()
        if name not in known
        for step, value in values.items()
    ]
    for start in range(0, len(new), BATCH):
        client.log_batch(run, metrics=new[start : start + BATCH])
