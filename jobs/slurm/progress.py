"""What a study has saved so far, which tells a run that makes progress from one that does not."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from softprior.errors import UserError
from softprior.inputs.base import Spec
from softprior.inputs.study_files import read_data
from softprior.results.storage import Location, RemotePath, location

SAVED = ("records", "checkpoints", "parts", "store")
"""Folders in which trials and shards leave what no later run computes again."""

BEAT = ".beat.json"
"""End of the files in which workers say how far they are, which are written whether or not they get on."""

Saved = frozenset[tuple[str, str]]
"""Names of files, and when they were written by the clock of the place where they are."""


def results_of(command: str, study: Path, rest: Sequence[str]) -> Location | None:
    """The folder of results of a command, from its arguments; None if it will refuse them."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--results", default="results")
    try:
        options, others = parser.parse_known_args(rest)
        names = tuple(word for word in others if word.startswith("name="))
        name = read_data(_kind(command), study, names).get("name")
        return location(options.results) / str(name)
    except (argparse.ArgumentError, UserError):
        return None


def saved(root: Location | None) -> Saved:
    """What is in a folder of results now.

    Raises:
        UserError: its bucket cannot be reached.
    """
    return frozenset() if root is None else frozenset().union(*(_files(root / part) for part in SAVED))


def _kind(command: str) -> type[Spec]:
    if command == "jobs.activations":
        from softprior.activations.spec import ActivationsSpec

        return ActivationsSpec
    from softprior.inputs.specs import StudySpec

    return StudySpec


def _files(folder: Location) -> Saved:
    found: list[tuple[str, str]] = []
    if isinstance(folder, RemotePath):
        found += ((name, time) for name, _, time in folder.listing())
    else:
        for path in folder.rglob("*"):
            with suppress(FileNotFoundError):  # a worker that is still ending has removed it
                if path.is_file():
                    found.append((str(path), str(path.stat().st_mtime_ns)))
    return frozenset((name, time) for name, time in found if not name.endswith(BEAT))
