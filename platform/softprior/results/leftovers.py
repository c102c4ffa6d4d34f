"""Removes what is of no use in a study's folder once its command has ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress

from softprior.results.files import TEMPORARY
from softprior.results.folder import StudyFolder
from softprior.results.provenance import SOURCES
from softprior.results.records import Record
from softprior.results.storage import RemotePath, listed

QUIET = 60.0
"""Seconds without a write before the study's table was written: longer than anybody pauses within a file."""


def remove_leftovers(folder: StudyFolder, records: Mapping[str, Record]) -> None:
    """Removes half-written files, checkpoints of finished trials, and losses of starts from other sources.

    Other commands write into the folder too, so that a file written to a moment ago stays until the study's
    command runs again. So does one that cannot be removed, as in a shared folder: the study has its results.

    Args:
        folder: of a study whose table was written just now.
        records: of its trials.
    """
    for path in listed(folder.checkpoints, "*.safetensors"):
        if path.stem in records and records[path.stem].status == "finished":
            with suppress(OSError):
                path.unlink(missing_ok=True)
    for path in listed(folder.untrained("").parent, "*.json"):
        if not path.name.startswith(SOURCES[:8]):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    table = folder.table
    if isinstance(table, RemotePath):
        return  # a file of a bucket is there as a whole or not at all
    with suppress(OSError):  # a folder may vanish meanwhile
        before = table.stat().st_mtime - QUIET
        for path in table.parent.rglob(".*"):
            with suppress(OSError):
                if re.match(TEMPORARY, path.name) and path.stat().st_mtime < before:
                    path.unlink()
