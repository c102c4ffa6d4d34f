"""Databases of MLflow's for tests, made once and then copied: to make one takes seconds."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from softprior.tracking.client import ARTIFACTS, DATABASE, default_uri, follow_artifacts, make_database


@lru_cache
def _empty() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="softprior-database-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make_database(default_uri(folder), folder / ARTIFACTS)
    return folder / DATABASE


def empty_database(results: Path) -> str:
    """The address of an empty database in a results folder, as a study that begins there would make it."""
    results.mkdir(parents=True, exist_ok=True)
    if not (results / DATABASE).exists():
        shutil.copy(_empty(), results)
        follow_artifacts(results)
    return default_uri(results)
