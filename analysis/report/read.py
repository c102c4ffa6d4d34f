"""Reads a study's folder for a report: what cannot be read becomes a sentence, and the rest is still read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.findings.study import Study, runs_of, twins_of
from softprior.errors import InUseError, UserError
from softprior.inputs.labels import by_number, counted, labels, short_ids
from softprior.library.results import Results
from softprior.results.files import held
from softprior.results.folder import StudyFolder
from softprior.results.records import READERS, Record, load_record
from softprior.results.storage import Location


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a study's folder holds, as far as it can be read.

    Attributes:
        results: the folder, with the records that could be read.
        header: study.json.
        records: of trials that have ended, by id, in the study's order, without twins.
        ended: the same with them: what ran and what it cost, but no numbers to compare.
        missing: ids of trials that have no record that can be read.
        problems: files that are missing or damaged, one sentence each.
        running: whether another process works in the folder.
        labels: what each trial is called within the study.
        ids: the short form of every trial id of the study.
        study: finished trials as comparisons take them.
    """

    results: Results
    header: Mapping[str, Any]
    records: Mapping[str, Record]
    ended: Mapping[str, Record]
    missing: tuple[str, ...]
    problems: tuple[str, ...]
    running: bool
    labels: Mapping[str, str]
    ids: Mapping[str, str]
    study: Study

    @property
    def folder(self) -> StudyFolder:
        return self.results.folder

    @property
    def finished(self) -> list[Record]:
        """All trials that have finished, twins among them."""
        return [record for record in self.ended.values() if record.status == "finished"]


def read(folder: str | Path | Location) -> Reading:
    """Opens a study's folder.

    Raises:
        UserError: no study has been run there, or study.json is damaged.
    """
    opened = Results(folder)
    header = opened.study
    trials = header["trials"]
    ended, damaged = _records(opened.folder, trials)
    missing = tuple(trial for trial in trials if trial not in ended)
    problems = list(damaged.values())
    if not opened.folder.table.exists():
        problems.append(
            f"{opened.folder.table.name} does not exist yet, so every number here comes from the records"
        )
    else:
        problems += _unreadable(opened.folder.table)
    runs, baselines = runs_of(ended.values())
    results = Results(opened.folder.root, ended)
    return Reading(
        results=results,
        header=header,
        records=results.records,
        ended=ended,
        missing=missing,
        problems=tuple(problems),
        running=bool(missing) and _running(opened.folder),
        labels=labels([record.spec for record in ended.values()]),
        ids=short_ids(trials) if trials else {},
        study=Study(runs, baselines, twins=twins_of(ended.values(), runs)),
    )


def partial(reading: Reading) -> list[str]:
    """Why the report is not that of a whole study, one sentence each; nothing if it is."""
    found = []
    total, lost = len(reading.header["trials"]), len(reading.missing)
    if lost:
        have = f"{counted(lost, 'trial')} of {total:,} {by_number(lost, 'has', 'have')} no record yet"
        why = "the study is still running" if reading.running else "run the study again to continue it"
        found.append(f"This is a partial report: {have}; {why}.")
    if not reading.records:
        found.append("No trial has ended, so there are no results.")
    return found


def _records(folder: StudyFolder, trials: Sequence[str]) -> tuple[dict[str, Record], dict[str, str]]:
    """Records by trial id, and a sentence for each that is damaged."""

    def one(trial: str) -> Record | UserError | None:
        path = folder.record(trial)
        try:
            return load_record(path)
        except FileNotFoundError:
            return None
        except UserError as error:
            return error

    with ThreadPoolExecutor(READERS) as pool:
        found = dict(zip(trials, pool.map(one, trials), strict=True))
    records = {trial: record for trial, record in found.items() if isinstance(record, Record)}
    return records, {trial: str(error) for trial, error in found.items() if isinstance(error, UserError)}


def _unreadable(path: Location) -> list[str]:
    """A sentence about a Parquet file that cannot be read."""
    import pyarrow.parquet as pq

    from softprior.results.storage import local_copy

    try:
        with local_copy(path) as here:
            pq.read_schema(here)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        return [
            f"{path} is damaged ({reason}), so every number here comes from the records; run the study again "
            "to write it"
        ]
    return []


def _running(folder: StudyFolder) -> bool:
    """Whether a process holds the folder's lock; of a bucket, whether there is a lease."""
    if not isinstance(folder.lock, Path):
        return folder.lock.exists()
    if not folder.lock.exists():
        return False
    try:
        with held(folder.lock):
            return False
    except InUseError:
        return True
    except UserError:
        return False  # a folder that cannot be written: nobody runs a study in it from here
