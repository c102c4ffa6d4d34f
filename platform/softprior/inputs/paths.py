"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

from softprior.errors import UserError


def home_path(written: str | Path) -> Path:
    """The path with `~` resolved. A shell resolves it too, but not in a file, behind `=`, or for Python.

    Raises:
        UserError: it begins with the home of a user who does not exist.
    """
    try:
        return Path(written).expanduser()
    except RuntimeError:
        raise UserError(f"there is no home folder for '{written}'; write out the path") from None
