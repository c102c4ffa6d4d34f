"""Which Python sources there are below a folder, as one hash: for code whose version does not identify it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


def sources_hash(folder: Path) -> str:
    """Sixteen hexadecimal digits for the names and contents of all Python files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(_sources(folder)):
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def _sources(folder: Path) -> Iterator[Path]:
    """Python files, except for those in hidden folders and virtual environments."""
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = [f for f in folders if not f.startswith(".") and not (here / f / "pyvenv.cfg").exists()]
        found = (here / file for file in files if file.endswith(".py") and not file.startswith("."))
        yield from (path for path in found if path.is_file())  # editors leave links that lead nowhere
