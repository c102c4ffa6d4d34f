"""The one cache folder: everything fetched or converted, built once even by several processes."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import platformdirs
from filelock import FileLock

from softprior.errors import UserError
from softprior.liveness import waiting
from softprior.storage import RemotePath, location

VARIABLE = "SOFTPRIOR_CACHE"


def cache_root() -> Path:
    """The cache folder: the environment variable SOFTPRIOR_CACHE, or the user's cache folder.

    Raises:
        UserError: the variable holds a relative path, which workers in other folders would misread.
    """
    chosen = os.environ.get(VARIABLE)
    if not chosen or "://" in chosen:
        return Path(platformdirs.user_cache_dir("softprior"))
    root = Path(chosen).expanduser()
    if not root.is_absolute():
        raise UserError(f"{VARIABLE} must be an absolute path, not '{chosen}'; try {root.absolute()}")
    return root


def shared_cache() -> RemotePath | None:
    """Where machines exchange what they have built, if SOFTPRIOR_CACHE is an address as s3://BUCKET/FOLDER.

    Raises:
        UserError: it is an address of another kind.
    """
    chosen = os.environ.get(VARIABLE, "")
    found = location(chosen) if "://" in chosen else None
    return found if isinstance(found, RemotePath) else None


def ensure(relative: str, build: Callable[[Path], None], shared: bool = True) -> Path:
    """`cache_root() / relative`, built first if it is not there.

    Of several processes one builds and the others wait. The build goes to a temporary sibling that
    is renamed at the end, so nobody ever sees a half-written result; what a killed build left behind
    is removed by the next one.

    Args:
        relative: place in the cache, with forward slashes.
        build: writes a file or a folder at the path it is given, which does not exist yet.
        shared: whether it means the same on another machine, which then may take it from `shared_cache()`.
    """
    target = place(relative)
    if target.exists():
        return target
    with waiting(), lock(relative):
        if target.exists():
            return target
        building = target.with_name(f".{target.name}.building")
        _remove(building)
        try:
            remote = shared_cache() if shared else None
            if remote is None:
                build(building)
            else:
                _exchange(remote / f"{relative}.tar", building, build)
            building.rename(target)
        finally:
            _remove(building)
    return target


def _exchange(remote: RemotePath, target: Path, build: Callable[[Path], None]) -> None:
    """Takes what another machine has built, or builds it for all."""
    with tempfile.TemporaryDirectory(prefix=".exchange-", dir=target.parent) as folder:
        packed = Path(folder) / "packed.tar"
        try:
            remote.download(packed)
            with tarfile.open(packed) as archive:
                archive.extractall(folder, filter="data")
            (Path(folder) / "content").rename(target)
            return
        except (FileNotFoundError, tarfile.TarError):
            pass
        build(target)
        with tarfile.open(packed, "w") as archive:
            archive.add(target, "content")
        remote.upload(packed)


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
