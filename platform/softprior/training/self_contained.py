"""What a user's own code file may import: only what is installed, since nothing else is in a trial's id."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from softprior.errors import UserError


class Imported(NamedTuple):
    """A module that a file imports, by the first word of its name; empty for a relative import."""

    line: int
    name: str


def require_self_contained(path: Path, text: str) -> None:
    """Refuses a file that imports a module which is neither Python's, softprior's nor installed.

    The file's text counts in the ids of trials and travels to workers. A module beside it would do neither,
    so that its edits would reuse finished trials.

    Raises:
        UserError: it imports one, at the top or in a function.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # of null bytes before 3.11.4 a ValueError
        return  # running it says what is wrong, and where
    for line, name in sorted(_imports(tree)):
        module = _own_module(name, path)
        if module is not None:
            raise UserError(
                f"--code {path.name} imports {module} (line {line}), whose edits no trial's id would show; "
                f"put its code into {path.name}, or install it as a package, not as an editable one"
            )


def _imports(tree: ast.Module) -> Iterator[Imported]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Imported(node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Imported(node.lineno, "" if node.level else (node.module or "").partition(".")[0])


def _own_module(name: str, importer: Path) -> Path | None:
    """Where a module is that is not installed; None for one that is, or that does not exist."""
    if not name:
        return importer.parent
    if name in sys.stdlib_module_names or name == "softprior":
        return None
    try:
        spec = find_spec(name)
    except ValueError:  # a module that somebody made by hand
        return None
    if spec is None:  # the folder of the file need not be on Python's path
        beside = (importer.with_name(f"{name}.py"), importer.with_name(name))
        # Not Path.exists, which raises where a name is too long for a file.
        return next((path for path in beside if os.path.exists(path)), None)
    inside = list(spec.submodule_search_locations or ())
    if spec.origin is None and not inside:
        return None
    place = Path(inside[0] if inside else str(spec.origin))
    # Where packages are installed, their versions are too; sources that are edited stand elsewhere.
    return None if any(place.parent.glob("*.dist-info")) else place
