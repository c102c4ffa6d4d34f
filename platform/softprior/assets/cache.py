"""The one cache folder: everything fetched or converted, built once even by several processes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import platformdirs
from filelock import FileLock

from softprior.errors import UserError

VARIABLE = "SOFTPRIOR_CACHE"


def cache_root() -> Path:
    """The cache folder: the environment variable SOFTPRIOR_CACHE, or the user's cache folder.

    Raises:
        UserError: the variable holds a relative path, which workers in other folders would misread.
    """
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        return Path(platformdirs.user_cache_dir("softprior"))
    root = Path(chosen).expanduser()
    if not root.is_absolute():
        raise UserError(f"{VARIABLE} must be an absolute path, not '{chosen}'; try {root.absolute()}")
    return root


def ensure(relative: str, build: Callable[[Path], None]) -> Path:
    """`cache_root() / relative`, built first if it is not there.

    Of several processes one builds and the others wait. The build goes to a temporary sibling that
    is renamed at the end, so nobody ever sees a half-written result; what a killed build left behind
    is removed by the next one.

    Args:
        relative: place in the cache, with forward slashes.
        build: writes a file or a folder at the path it is given, which does not exist yet.
    """
    target = place(relative)
    if target.exists():
        return target
    with lock(relative):
        if target.exists():
            return target
        building = target.with_name(f".{target.name}.building")
        _remove(building)
        try:
            build(building)
            building.rename(target)
        finally:
            _remove(building)
    return target


def place(relative: str) -> Path:
    """`cache_root() / relative` with its parent folder made.

    Raises:
        UserError: the cache folder cannot be written.
    """
    parts = PurePosixPath(relative)
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"'{relative}' is not a place inside the cache")
    target = cache_root() / parts
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache folder {cache_root()} cannot be written ({error.strerror}); "
            f"set {VARIABLE} to a folder that can"
        ) from None
    return target


def lock(relative: str) -> FileLock:
    """The lock of one place in the cache. The system frees it when its process ends, killed or not."""
    return FileLock(place(f"locks/{relative.replace('/', '--')}.lock"))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
