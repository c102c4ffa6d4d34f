"""Results of other code: the line that says that they are reused, and rerunning their trials.

A trial's old files stay in the folder `earlier` until its new record is complete, and are restored if there
is none.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress

from softprior.inputs.labels import by_number, counted
from softprior.results.files import write_atomically
from softprior.results.folder import StudyFolder
from softprior.results.provenance import code, named, same_code
from softprior.results.records import Record, load_records
from softprior.results.storage import Location, local_copy

AGAIN = "--again"
"""The option of `python -m jobs.study`."""

STARTS_OVER = "starts the search over"
"""What it does to a search."""


def of_other_code(records: Iterable[Record]) -> list[Record]:
    """Those that were made by other code than this process runs."""
    return [record for record in records if not same_code(record.environment)]


def reused_note(reused: Iterable[Record], remedy: str = "") -> str | None:
    """The line about reused records of other code; None where there are none.

    Args:
        remedy: what the option does, if that is more than to run them again.
    """
    records = list(reused)
    others = of_other_code(records)
    if not others:
        return None
    made = list(dict.fromkeys(named(record.environment) for record in others))
    more = f" and {counted(len(made) - 1, 'other')}" if len(made) > 1 else ""
    were = by_number(len(others), "was", "were")
    which = f"{len(others)} of {counted(len(records), 'reused trial')} {were} made by other code"
    remedy = remedy or f"runs {by_number(len(others), 'it', 'them')} again"
    return f"note: {which} ({made[0]}{more}; now {named(code())}); {AGAIN} {remedy}"


def set_aside(folder: StudyFolder, trials: Iterable[str]) -> None:
    """Moves the trials' files to the folder `earlier`; records are copied last and removed first."""
    for trial in trials:
        pairs = _files(folder, folder.earlier, trial)
        for here, there in pairs:
            _copy(here, there)
        for here, _ in reversed(pairs):
            here.unlink(missing_ok=True)


def settle(folder: StudyFolder) -> None:
    """Restores the old files of trials without a new record, and deletes those of trials with one.

    The old files of a trial that failed when it was rerun stay in the folder `earlier`.
    """
    aside = load_records(folder.earlier.records)
    records = load_records(folder.records) if aside else {}
    for trial in aside:
        pairs = _files(folder.earlier, folder, trial)
        if trial not in records:
            for here, there in pairs:
                _copy(here, there)
        elif records[trial].status != "finished":
            continue
        for here, _ in reversed(pairs):
            here.unlink(missing_ok=True)


def _files(of: StudyFolder, to: StudyFolder, trial: str) -> list[tuple[Location, Location]]:
    """A trial's files in two folders, its record last."""
    paths = [(f.posterior(trial), f.figure(trial), f.examples(trial), f.record(trial)) for f in (of, to)]
    return list(zip(*paths, strict=True))


def _copy(source: Location, target: Location) -> None:
    with suppress(FileNotFoundError), local_copy(source) as here:  # untrained methods have a record alone
        if here.exists():
            write_atomically(target, lambda temporary: shutil.copyfile(here, temporary))
