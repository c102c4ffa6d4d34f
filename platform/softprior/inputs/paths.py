"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path

from softprior.errors import UserError, a_kind

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes of a name and of a path that file systems allow."""


def home_path(written: str | Path) -> Path:
    """The path with `~` resolved. A shell resolves it too, but not in a file, behind `=`, or for Python.

    Raises:
        UserError: it begins with the home of a user who does not exist, or no file can have this path.
    """
    if not isinstance(written, str | os.PathLike):
        raise UserError(f"a path is a text, not {a_kind(written)}; give that of a file or folder")
    try:
        path = Path(written).expanduser()
    except RuntimeError:
        raise UserError(f"there is no home folder for '{written}'; write out the path") from None
    if "\0" in str(path):
        raise UserError(f"the path '{path}' contains a NUL character, which no file has; remove it")
    try:
        names = [len(os.fsencode(name)) for name in path.parts]
    except UnicodeEncodeError:
        raise UserError(
            f"the path {str(path)!a} contains half a character, which no file has; remove it"
        ) from None
    if max(names, default=0) > LONGEST_NAME or len(os.fsencode(path)) > LONGEST_PATH:
        raise UserError(
            f"the path {path} is too long: a name may have {LONGEST_NAME} bytes and a path {LONGEST_PATH:,}; "
            "give a shorter one"
        )
    return path
