"""Connections to MLflow: a server, or a database that is created completely, and the study's experiment."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from filelock import FileLock

from softprior.errors import UserError, hidden
from softprior.inputs.base import ARTIFACTS, DATABASE
from softprior.inputs.specs import TrackingSpec
from softprior.results.files import write_atomically
from softprior.results.storage import Location, RemotePath
from softprior.tracking.mlflow_private import PLACES, make_tables

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

BATCH, PARAMETERS = 1000, 100
"""Metrics and parameters that one `log_batch` takes."""

SQLITE = "sqlite:///"


class Connection(NamedTuple):
    """An open database or server.

    Attributes:
        client: an `MlflowClient`.
        experiment: its id.
        notes: what a user should know about it, one sentence each.
    """

    client: MlflowClient
    experiment: str
    notes: tuple[str, ...]


def sqlite_uri(path: Path) -> str:
    """The address of a database file; `?` and `%` have a special meaning in addresses."""
    return SQLITE + str(path).replace("%", "%25").replace("?", "%3F")


def _file(uri: str) -> Path:
    """The database file of an SQLite address."""
    return Path(unquote(uri.removeprefix(SQLITE).partition("?")[0]))


@contextmanager
def _no_stray_folder(uri: str) -> Iterator[None]:
    """Removes the folder that MLflow creates for the still encoded path of an address, `%25` included."""
    raw = Path(uri.removeprefix(SQLITE))
    made = []
    if uri.startswith(SQLITE) and raw != _file(uri):
        made = [folder for folder in raw.parents if not folder.exists()]
    yield
    for folder in made:
        with suppress(OSError):  # somebody uses it
            folder.rmdir()


def default_uri(results: Path) -> str:
    """An SQLite database beside the results folders of all studies."""
    return sqlite_uri(results.resolve() / DATABASE)


def tracking_uri(tracking: TrackingSpec, results: Location) -> str | None:
    """Where runs are recorded: what the study says, or a database beside its results; None if nowhere.

    Raises:
        UserError: results are in an object store, which cannot contain a database, and there is no server; or
            the database is a folder.
    """
    if not tracking.enabled:
        return None
    if tracking.uri is not None and tracking.uri.startswith(SQLITE) and _file(tracking.uri).is_dir():
        raise UserError(
            f"tracking.uri must name a database file, but {tracking.uri} is a folder; name a file in it, "
            f"such as {sqlite_uri(_file(tracking.uri) / DATABASE)}"
        )
    if isinstance(results, Path):
        return tracking.uri or default_uri(results)
    if tracking.uri is None or not tracking.uri.startswith("http"):
        raise UserError(
            f"results in {results} need a tracking server, but tracking.uri is {tracking.uri or 'not set'}; "
            "give the server's http address, or set tracking.enabled=false"
        )
    return tracking.uri


def problem_of(error: Exception) -> str:
    """Why MLflow could not be written, in one line."""
    first = hidden((str(error).splitlines() or [""])[0])
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"


def require_database(uri: str) -> None:
    """Checks that an SQLite database is there: MLflow would create one, empty.

    Raises:
        UserError: it is not.
    """
    if uri.startswith(SQLITE) and not _file(uri).is_file():
        raise UserError(f"there is no database {_file(uri)}; put it there, or run the study again to send it")


def connect(uri: str) -> MlflowClient:
    """A client of a server or database that exists."""
    _quietly()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _quietly() -> None:
    """Sets MLflow up: without telemetry, nearly silent, and without patience for a server that is away."""
    # Retries are for a moment's trouble; a server that is away must not hold the work up.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # noqa: F401  it sets its own levels as it is imported

    for module in ("alembic", "mlflow"):
        logging.getLogger(module).setLevel(logging.WARNING)


def open_experiment(uri: str, name: str, results: Location) -> Connection:
    """Connects to a server or database, which is created if needed, and finds or creates an experiment.

    Args:
        results: the folder that contains the results folders of all jobs.

    Raises:
        UserError: the experiment is deleted and cannot be restored.
    """
    _quietly()
    artifacts = results / ARTIFACTS
    make_database(uri, artifacts)
    notes = [] if isinstance(results, RemotePath) else follow_artifacts(results)
    with _no_stray_folder(uri):
        client = connect(uri)
        found = client.get_experiment_by_name(name)
    if found is None:
        # A database keeps artifacts in the working directory unless told otherwise; servers know.
        local = None if uri.startswith("http") else artifacts.as_uri()
        return Connection(client, str(client.create_experiment(name, artifact_location=local)), tuple(notes))
    if found.lifecycle_stage == "deleted":
        notes.append(_restore(client, found))
    if found.artifact_location.startswith("file:") and found.artifact_location != artifacts.as_uri():
        there = _path(found.artifact_location)
        notes.append(f"MLflow's experiment {name} keeps its artifacts in {there}, not beside these results")
    return Connection(client, str(found.experiment_id), tuple(notes))


def _restore(client: MlflowClient, experiment: Experiment) -> str:
    """Restores a deleted experiment: a new one of the same name cannot be created.

    Raises:
        UserError: MLflow refuses.
    """
    try:
        client.restore_experiment(experiment.experiment_id)
    except Exception as error:  # whatever a server or database raises
        raise UserError(
            f"its experiment {experiment.name} is deleted and could not be restored ({problem_of(error)}); "
            f"restore it with: mlflow experiments restore --experiment-id {experiment.experiment_id}"
        ) from None
    return f"the experiment {experiment.name} had been deleted in MLflow and has been restored"


def make_database(uri: str, artifacts: Location) -> None:
    """Creates an SQLite database completely or not at all; other databases and servers are left alone.

    MLflow creates its tables one migration after another. If killed in between, it leaves a file that it can
    never open again, and two studies that begin at once get in each other's way.
    """
    if not uri.startswith(SQLITE):
        return
    path = _file(uri)
    if path.exists():
        return

    def build(temporary: Path) -> None:
        address = sqlite_uri(temporary)
        with _no_stray_folder(address):
            make_tables(address, artifacts.as_uri())

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.exists():
            write_atomically(path, build)


def follow_artifacts(results: Path) -> list[str]:
    """Makes the database of a results folder look for artifacts where the folder is now.

    MLflow keeps absolute addresses, so in a folder that was moved it would find none of the old artifacts,
    and would write new ones to where the folder was. Other results folders may use the same database, and
    keep their artifacts beside themselves.

    Returns:
        One sentence for every place that was given up.

    Raises:
        UserError: it is not a database of MLflow's, damaged, or in use for too long.
    """
    path = results / DATABASE
    if not path.exists():
        return []
    try:
        return _follow_artifacts(path, results / ARTIFACTS)
    except sqlite3.Error as error:
        raise UserError(
            f"{path} cannot be read as a database of MLflow's ({error}); restore it, or move it away"
        ) from None


def _follow_artifacts(path: Path, here: Path) -> list[str]:
    with closing(sqlite3.connect(path, timeout=30)) as database, database:
        known = [row[0] for row in database.execute("SELECT artifact_location FROM experiments")]
        matches = [re.match(rf"file://.*?/{ARTIFACTS}(?=/|$)", address or "") for address in known]
        places = dict.fromkeys(match[0] for match in matches if match)
        runs = [row[0] or "" for row in database.execute("SELECT artifact_uri FROM runs")]
        gone = [place for place in places if place != here.as_uri() and _left(place, here, runs)]
        for place in gone:
            for table, column in PLACES:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608  our own words
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (here.as_uri(), len(place) + 1, place, len(place) + 1, f"{place}/"),
                )
    return [f"MLflow's artifacts were in {_path(place)} and are now in {here}" for place in gone]


def _left(place: str, here: Path, runs: Iterable[str]) -> bool:
    """Whether another place is gone, or was copied: every run's folder there also exists here."""
    if not _path(place).exists():
        return True
    inside = [_path(run).relative_to(_path(place)) for run in runs if run.startswith(f"{place}/")]
    there = [folder for folder in inside if (_path(place) / folder).exists()]
    return bool(there) and all((here / folder).exists() for folder in there)


def _path(address: str) -> Path:
    """The path of a `file://` address."""
    return Path(unquote(address.removeprefix("file://")))
