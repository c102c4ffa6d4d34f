"""A database of MLflow's for each test, made once and then copied: to make one takes seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from softprior.tracking.client import default_uri, make_database


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, to be copied."""
    folder = tmp_path_factory.mktemp("database")
    make_database(default_uri(folder), folder / "mlflow-artifacts")
    return folder / "mlflow.db"


@pytest.fixture
def uri(database: Path, tmp_path: Path) -> str:
    """The address of a database of the test's own, in its folder."""
    shutil.copy(database, tmp_path)
    return default_uri(tmp_path)
