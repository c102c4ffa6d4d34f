"""Connections to MLflow: a server, or a database that is made whole."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from filelock import FileLock

from softprior.errors import UserError
from softprior.files import write_atomically
from softprior.specs import TrackingSpec
from softprior.storage import Location

ARTIFACTS = "mlflow-artifacts"
"""Folder beside an SQLite database."""

BATCH, PARAMETERS = 1000, 100
"""Metrics and parameters that one `log_batch` takes."""

SQLITE = "sqlite:///"


def default_uri(results: Path) -> str:
    """An SQLite database beside the results folders of all studies."""
    return f"sqlite:///{results.resolve()}/mlflow.db"


def tracking_uri(tracking: TrackingSpec, results: Location) -> str | None:
    """Where runs are recorded: what the study says, or a database beside its results; None if nowhere.

    Raises:
        UserError: results are in an object store, which can hold no database, and there is no server.
    """
    if not tracking.enabled:
        return None
    if isinstance(results, Path):
        return tracking.uri or default_uri(results)
    if tracking.uri is None or not tracking.uri.startswith("http"):
        raise UserError(
            f"results in {results} need a tracking server, and tracking.uri is {tracking.uri or 'not set'}; "
            "give the server's http address, or set tracking.enabled=false"
        )
    return tracking.uri


def make_database(uri: str, artifacts: Location) -> None:
    """Makes an SQLite database whole or not at all; other databases and servers are left alone.

    MLflow makes its tables one migration after another. Killed in between it leaves a file that it can
    never open again, and two studies that begin at once get into each other's way.
    """
    path = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    def build(temporary: Path) -> None:
        SqlAlchemyStore(f"{SQLITE}{temporary}", artifacts.as_uri()).engine.dispose()

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.exists():
            write_atomically(path, build)


def connect(uri: str, artifacts: Location) -> Any:
    """An `MlflowClient` of a server or database; the database is made if it is not there."""
    # Retries are for a moment's trouble; a server that is away must not hold the work up.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow"):  # MLflow sets its own as it is imported
        logging.getLogger(name).setLevel(logging.WARNING)
    make_database(uri, artifacts)
    return MlflowClient(tracking_uri=uri)
