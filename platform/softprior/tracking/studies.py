"""The studies of a database or server: their views, made where there is none, and files for their runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from softprior.errors import UserError
from softprior.results.storage import Location, local_copy
from softprior.tracking.client import connect, problem_of, require_database
from softprior.tracking.view import TRIAL, address, has_view, write_view

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREFIX = "softprior/"
"""Begins the names of our experiments."""

PARENT = "softprior.study"
"""Tag of a study's own run."""

_ELSE = re.compile(r"[^\w.\-/ ]+")
"""What names of metrics cannot have in every database."""


class Compared(NamedTuple):
    """A study and the address of the view that compares its trials, from the server's on."""

    study: str
    page: str


def studies(uri: str) -> list[Compared]:
    """The studies that have trials, the latest first; a study of an earlier version gets its view.

    Args:
        uri: of a database or server that exists.
    """
    client = connect(uri)
    found = []
    experiments = client.search_experiments(
        filter_string=f"name LIKE '{PREFIX}%'", order_by=["last_update_time DESC"]
    )
    for experiment in experiments:
        known = str(experiment.experiment_id)
        if not has_view(experiment.tags):
            trials = list(_parameters(client, known))
            if not trials:
                continue
            write_view(client, known, trials)
        found.append(Compared(experiment.name.removeprefix(PREFIX), address(known)))
    return found


def add_files(uri: str, study: str, files: Iterable[Location]) -> str | None:
    """Adds files to a study's own run: what is made of its results after it has ended.

    Args:
        files: become artifacts under their names; older ones of the same name are replaced.

    Returns:
        What went wrong, or None. The results folder has everything, so this need not stop the work.
    """
    try:
        client, run = _own_run(uri, study)
        for path in files:
            with local_copy(path) as here:
                client.log_artifact(run, str(here))
    except Exception as error:  # MLflow raises whatever its database, its server or the network raise
        return problem_of(error)
    return None


def add_numbers(uri: str, study: str, numbers: Mapping[str, float]) -> str | None:
    """Adds numbers to a study's own run: what is measured of its results after it has ended.

    Args:
        numbers: by name, in which `_` takes the place of characters that MLflow does not allow. The pages
            show the latest of several under one name.

    Returns:
        What went wrong, or None. The results folder has everything, so this need not stop the work.
    """
    try:
        client, run = _own_run(uri, study)
        for name, value in numbers.items():
            client.log_metric(run, _ELSE.sub("_", name), value)
    except Exception as error:  # MLflow raises whatever its database, its server or the network raise
        return problem_of(error)
    return None


def _own_run(uri: str, study: str) -> tuple[MlflowClient, str]:
    """A client, and the id of a study's own run.

    Raises:
        UserError: there is no such database or run.
    """
    require_database(uri)
    client = connect(uri)
    experiment = client.get_experiment_by_name(PREFIX + study)
    where = [] if experiment is None else [experiment.experiment_id]
    runs = client.search_runs(where, f"tags.`{PARENT}` = '{study}'", max_results=1) if where else []
    if not runs:
        raise UserError(f"MLflow has no run of the study '{study}'; run the study again to send it")
    return client, str(runs[0].info.run_id)


def _parameters(client: MlflowClient, experiment: str) -> Iterator[dict[str, str]]:
    """Those of every trial's run."""
    token = None
    while True:
        page = client.search_runs([experiment], f"tags.`{TRIAL}` != ''", page_token=token)
        yield from (run.data.params for run in page)
        token = page.token
        if not token:
            return
