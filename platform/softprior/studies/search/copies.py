"""A copy of an ended search as one SQLite file, for Optuna's dashboard in the browser."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna import Study
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from softprior.errors import UserError
from softprior.results.files import write_atomically
from softprior.results.folder import StudyFolder
from softprior.studies.search.optuna_private import storage_of


def save_copy(study: Study, folder: StudyFolder) -> None:
    """Writes `search/optuna.db`: the search's proposals with their values, curves and attributes.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_atomically(folder.dashboard, lambda temporary: _copy(study, temporary))
    except (SQLAlchemyError, StorageInternalError, OSError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"{folder.dashboard} cannot be written ({first}); make room and run the same search again"
        ) from None


def _copy(study: Study, path: Path) -> None:
    storage = RDBStorage(URL.create("sqlite", database=str(path)).render_as_string())
    try:
        optuna.copy_study(
            from_study_name=study.study_name, from_storage=storage_of(study), to_storage=storage
        )
    finally:
        storage.engine.dispose()
