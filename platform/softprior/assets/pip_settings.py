"""pip's settings on this machine: asset files come from the same sources as packages."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import dataclass

from unearth import PackageFinder


@dataclass(frozen=True)
class PipSettings:
    """What pip would use to find and fetch a file.

    Attributes:
        indexes: addresses of simple indexes, in pip's order; empty with `no-index`.
        find_links: folders, files or pages that list files.
        trusted: hosts whose certificate is not checked.
        certificates: file of certificate authorities, or None for the client's own.
        proxy: address of a proxy, or None for the environment's.
        timeout: seconds to wait for data.
    """

    indexes: tuple[str, ...]
    find_links: tuple[str, ...]
    trusted: tuple[str, ...]
    certificates: str | None
    proxy: str | None
    timeout: float


def pip_settings() -> PipSettings:
    """The settings of this environment's pip: its files, overridden by PIP_* variables."""
    values = _from_pip() | _from_environment()
    index = values.get("index-url") or PackageFinder().sources[0]["url"]
    no_index = values.get("no-index", "").lower() in ("1", "true", "yes", "on", "t", "y")
    return PipSettings(
        indexes=() if no_index else (index, *values.get("extra-index-url", "").split()),
        find_links=tuple(values.get("find-links", "").split()),
        trusted=tuple(values.get("trusted-host", "").split()),
        certificates=values.get("cert") or None,
        proxy=values.get("proxy") or None,
        timeout=float(values.get("timeout") or values.get("default-timeout") or 15),
    )


def _from_pip() -> dict[str, str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own pip
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for line in listed.stdout.splitlines():
        name, separator, value = line.partition("=")
        section, _, key = name.partition(".")
        if separator and section in sections:
            sections[section][key] = str(ast.literal_eval(value))
    return sections["global"] | sections["install"]


def _from_environment() -> dict[str, str]:
    given = ((name, value) for name, value in os.environ.items() if name.startswith("PIP_"))
    return {name.removeprefix("PIP_").lower().replace("_", "-"): value for name, value in given}
