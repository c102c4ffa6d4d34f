"""What stands with every result: versions, commit, machine."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import softprior

PACKAGES = (
    "torch",
    "transformers",
    "datasets",
    "ray",
    "mlflow",
    "optuna",
    "deepspeed",
    "scikit-learn",
    "safetensors",
)


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of Python, softprior and the libraries that can change a number."""
    found = {"python": platform.python_version(), "softprior": softprior.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The commit of the checkout that softprior runs from, `+` if it has changes; None outside of one."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603  fixed words

    try:
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


def environment(seconds: float) -> dict[str, Any]:
    """Versions, commit and machine of this process, and how long the trial worked."""
    return {
        "versions": versions(),
        "commit": commit(),
        "machine": platform.node(),
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 2),
    }
