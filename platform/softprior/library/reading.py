"""Reads the files of a study's folder; a damaged one gives a sentence, and the others are still read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprior.errors import UserError
from softprior.results.entries import with_planned_entries
from softprior.results.folder import GONE, StudyFolder
from softprior.results.records import READERS, Record, load_record
from softprior.results.storage import Location, local_copy

if TYPE_CHECKING:
    import pandas as pd

    from softprior.results.posteriors import Posterior


def read_table(path: Location) -> pd.DataFrame:
    """A study's trials.parquet.

    Raises:
        FileNotFoundError: it does not exist.
        UserError: it is damaged.
    """
    import pyarrow as pa

    from softprior.results.tables import load_table

    try:
        with local_copy(path) as here:
            return load_table(here)[0].to_pandas()
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(_damaged(path, error)) from None


def require_table_of(study: str, path: Path) -> None:
    """Checks that a trials.parquet, if there is one that can be read, is of a study of this name.

    Raises:
        UserError: it says that it is of another one. Older tables do not say.
    """
    import pyarrow as pa

    from softprior.results.tables import load_header

    try:
        header = load_header(path)
    except (pa.ArrowException, OSError, ValueError):
        return  # whoever reads it says so
    own = header.get("study", study) if isinstance(header, dict) else study
    if own != study:
        raise UserError(
            f"{path} is of the study '{own}', but the study.json beside it is of '{study}'; restore the one "
            "that does not belong here, or delete study.json and run the study again"
        )


def table_problem(path: Location) -> str:
    """What is wrong with a study's trials.parquet, without reading its rows; empty if nothing is."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with local_copy(path) as here:
            pq.read_schema(here)
    except FileNotFoundError:
        return f"{path.name} does not exist yet"
    except (pa.ArrowException, OSError, ValueError) as error:
        return _damaged(path, error)
    return ""


def _damaged(path: Location, error: Exception) -> str:
    reason = (str(error).splitlines() or ["unreadable"])[0].rstrip(".")
    return f"{path} is damaged ({reason}); run the study again, which writes it anew"


def sound_records(folder: StudyFolder, trials: Iterable[str]) -> tuple[dict[str, Record], tuple[str, ...]]:
    """The records of some trials that can be read, and a sentence for each that is damaged."""

    def one(trial: str) -> Record | UserError | None:
        try:
            return load_record(folder.record(trial))
        except FileNotFoundError:
            return None
        except UserError as error:
            return error

    wanted = list(trials)
    with ThreadPoolExecutor(READERS) as pool:  # in a bucket a request each, of which nearly all is waiting
        found = dict(zip(wanted, pool.map(one, wanted), strict=True))
    records = {trial: record for trial, record in found.items() if isinstance(record, Record)}
    return records, tuple(str(error) for error in found.values() if isinstance(error, UserError))


def has_posterior(record: Record) -> bool:
    """Whether a trial has left the vectors of a trained prompt."""
    return record.status == "finished" and record.spec.training is not None


def read_posterior(folder: StudyFolder, trial: str) -> Posterior:
    """Where the vectors of a trial started, passed and ended.

    Raises:
        UserError: the file is missing or damaged.
    """
    from softprior.results.posteriors import load_posterior

    path = folder.posterior(trial)
    try:
        return load_posterior(path)
    except UserError as error:
        remedy = f"delete the record of trial {trial} to run it again" if path.exists() else GONE
        raise UserError(f"{error}; {remedy}") from None


def labelled(
    records: Mapping[str, Record], header: Mapping[str, Any], folder: StudyFolder
) -> dict[str, Record]:
    """The records with the study's entries: under their labels, which records themselves do not have.

    study.json has the entries of each trial. Those of studies from before it had them are shown under their
    components' names, or the labels that the table has.

    Args:
        header: study.json.
    """
    planned = with_planned_entries(records, header)
    if planned.keys() == records.keys():
        return planned
    # Components of all kinds, and torch: studies that run today need none of them here.
    from softprior.library.unplanned import Names, labels_of

    try:
        labels = labels_of(read_table(folder.table))
    except (FileNotFoundError, UserError):
        labels = {}
    shown = Names(labels)
    return {trial: planned.get(trial) or shown.record(record) for trial, record in records.items()}
