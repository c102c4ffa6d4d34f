"""Which code made a result: the commit of softprior's checkout, and a hash of its sources.

Neither is part of a trial's id, so that no refactoring invalidates results. Both are in every record,
and a record of other code is reused only with a line that says so.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from softprior.inputs.sources import sources_hash

PACKAGE = Path(__file__).parents[1]

SOURCES = sources_hash(PACKAGE)
"""Identifies softprior's modules; read on import, as a process runs what it has imported, whatever is
edited meanwhile."""


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The commit of the checkout that softprior runs from, with `+` if it is edited; None outside one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603  fixed words

    try:
        if not git("ls-files", "--", "results/provenance.py"):
            return None  # an installed package inside of another project's checkout
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def edits() -> tuple[str, ...]:
    """Separates the caches of code that is in no commit: its sources' hash; nothing for a clean commit.

    Clean commits share what is cached: format numbers say where they differ.
    """
    known = commit()
    return () if known is not None and not known.endswith("+") else (SOURCES,)


def code() -> dict[str, str | None]:
    """The code of this process, as written in records."""
    return {"commit": commit(), "sources": SOURCES}


def same_code(made: Mapping[str, object]) -> bool:
    """Whether this process runs the code that made something.

    Args:
        made: `code()` as it was then. What older versions wrote has no sources and is identified by its
            commit, which says nothing about edits.
    """
    if "sources" in made:
        return bool(made["sources"] == SOURCES)
    known = made.get("commit")
    return isinstance(known, str) and not known.endswith("+") and known == commit()


def named(made: Mapping[str, object]) -> str:
    """Code in words: `commit 7da8250 with edits (sources 1f3a9c02)`."""
    known, sources = made.get("commit"), made.get("sources")
    where = "no commit"
    if isinstance(known, str):
        where = f"commit {known[:7]}{' with edits' if known[-1:] == '+' else ''}"
    return f"{where} (sources {str(sources)[:8]})" if sources else where
