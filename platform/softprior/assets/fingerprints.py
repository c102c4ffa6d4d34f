"""Fingerprints: short strings that are equal exactly when the data behind them are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from softprior.assets.cache import ensure
from softprior.results.files import version_of


def combined(*parts: str) -> str:
    """One hexadecimal SHA-256 of several strings in order."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def of_file(path: Path) -> str:
    """The SHA-256 of a file, cached for as long as nobody writes or replaces it."""
    path = path.resolve()

    def build(memo: Path) -> None:
        with path.open("rb") as stream:
            memo.write_text(hashlib.file_digest(stream, "sha256").hexdigest())

    state = combined(str(path), *map(str, version_of(path)))
    return ensure(f"fingerprints/{state}", build, shared=False).read_text()


def of_files(paths: Iterable[Path]) -> str:
    """One SHA-256 of several files and their names, in whatever order they are given."""
    return combined(*(f"{path.name} {of_file(path)}" for path in sorted(paths)))
