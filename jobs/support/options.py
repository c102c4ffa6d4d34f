"""Options that several commands have, and the study file that is meant."""

from __future__ import annotations

import argparse
import difflib
import os
from pathlib import Path

from softprior.errors import UserError
from softprior.inputs.paths import home_path
from softprior.inputs.study_files import neighbours

STUDIED = "the Python file with components of your own that the study was run with"

STUDIES = Path(__file__).parents[1] / "studies"
"""The study files that come with softprior."""


def add_code(parser: argparse.ArgumentParser, explained: str = STUDIED) -> None:
    """Adds `--code FILE`, which can be given several times; `options.code` has the paths."""
    parser.add_argument("--code", type=Path, action="append", default=[], metavar="FILE", help=explained)


def study_path(given: str) -> Path:
    """The study file that is meant: a path, or the name of one that comes with softprior.

    The ending `.yaml` can be left out. What begins with a dot or contains a separator is a path.

    Raises:
        UserError: there is none, and no other study file beside it.
    """
    path = home_path(given)
    here = Path.cwd()
    studies = STUDIES.relative_to(here) if STUDIES.is_relative_to(here) else STUDIES
    known = {name: file for file in studies.glob("*.yaml") for name in (file.stem, file.name)}
    names = ", ".join(sorted({file.stem for file in known.values()}))
    if not given:
        raise UserError(f"the name of the study file is empty; give a path, or one of {names}")
    named = None if given.startswith(".") or os.sep in given else known.get(given)
    for file in (path, path.parent / f"{path.name}.yaml", named):
        # Not Path.exists, which raises where a folder is closed to us or a name too long.
        if file is not None and os.path.exists(file) and not os.path.isdir(file):
            return file
    beside = neighbours(path.parent)
    closed = os.path.isdir(path.parent) and not os.access(path.parent, os.X_OK)
    if os.path.isdir(path) or closed or (beside and path.parent != Path()):
        return path  # whoever reads it says what is wrong
    close = difflib.get_close_matches(path.name, [*known, *beside], n=1)
    meant = f"did you mean '{close[0]}'? Otherwise " if close else ""
    if path.name in known:
        meant = f"for the one that comes with softprior write {known[path.name].stem}; otherwise "
    raise UserError(
        f"there is no study file {given}; {meant}give a path, or one that comes with softprior: {names}"
    )
