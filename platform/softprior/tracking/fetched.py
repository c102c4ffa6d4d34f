"""A study's folder made from what MLflow has of it, for results that are not on this machine."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from softprior.errors import UserError, hidden
from softprior.results.folder import StudyFolder
from softprior.results.storage import Location
from softprior.tracking.client import connect, problem_of, require_database
from softprior.tracking.studies import PARENT, PREFIX
from softprior.tracking.view import TRIAL

if TYPE_CHECKING:
    from mlflow import MlflowClient

_TRIAL = re.compile(r"[0-9a-f]{8,64}")
"""The ids of trials become names of files here, and a server's tags are anybody's text."""


def fetch_study(uri: str, study: str, folder: Path) -> None:
    """Copies the records, posteriors, rows per example and tables of a study from MLflow.

    Files that are there already are copied again: a study may have gone on since.

    Args:
        uri: of a tracking server, or `sqlite:///PATH` of a database.
        folder: becomes the study's results folder.

    Raises:
        UserError: MLflow cannot be read, does not have the study, or has no end of a run of it.
    """
    if not isinstance(uri, str) or ("://" not in uri and not uri.startswith("sqlite:")):
        raise UserError(
            f"'{uri}' is no address of MLflow; give http://HOST:PORT, or sqlite:///PATH of a database"
        )
    require_database(uri)
    try:
        client = connect(uri)
        experiment = client.get_experiment_by_name(PREFIX + study)
        if experiment is None:
            raise UserError(f"MLflow at {hidden(uri)} has no study '{study}'; it has {_known(client)}")
        runs = list(_runs(client, str(experiment.experiment_id)))
        own = next((run for run, tags in runs if tags.get(PARENT) == study), None)
        names = set() if own is None else {found.path for found in client.list_artifacts(own)}
        target = StudyFolder(folder)
        if own is None or target.study.name not in names:
            raise UserError(
                f"MLflow at {hidden(uri)} has no study.json of the study '{study}'; it is sent when a run of "
                "the study ends, so wait for that, or run the study again"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for run, tags in runs:
            trial = tags.get(TRIAL, "")
            if _TRIAL.fullmatch(trial):
                _copy(client, run, [target.posterior(trial), target.examples(trial), target.record(trial)])
        _copy(client, own, [target.table, target.study])
    except UserError:
        raise
    except Exception as error:  # MLflow raises whatever its database, its server or the network raise
        raise UserError(f"the study '{study}' cannot be read from MLflow: {problem_of(error)}") from None


def _copy(client: MlflowClient, run: str, files: list[Location]) -> None:
    """Copies those artifacts of a run that have the files' names; each file is whole or not there."""
    there = {found.path for found in client.list_artifacts(run)}
    for path in files:
        if path.name in there and isinstance(path, Path):
            path.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
                os.replace(client.download_artifacts(run, path.name, scratch), path)


def _runs(client: MlflowClient, experiment: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Ids and tags of all runs of an experiment."""
    token = None
    while True:
        page = client.search_runs([experiment], page_token=token)
        yield from ((run.info.run_id, run.data.tags) for run in page)
        token = page.token
        if not token:
            return


def _known(client: MlflowClient) -> str:
    """The studies that MLflow has, in words."""
    found = client.search_experiments(
        filter_string=f"name LIKE '{PREFIX}%'", order_by=["last_update_time DESC"]
    )
    names = [experiment.name.removeprefix(PREFIX) for experiment in found]
    if not names:
        return "no studies"
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
