"""The cache folder of everything fetched or converted; several processes build an entry only once."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import platformdirs
from filelock import FileLock

from softprior.assets.archives import unpack
from softprior.errors import UserError, full_disk
from softprior.inputs.paths import home_path
from softprior.liveness import waiting
from softprior.results.storage import RemotePath, location

VARIABLE = "SOFTPRIOR_CACHE"


def cache_root() -> Path:
    """The cache folder: the environment variable SOFTPRIOR_CACHE, or the user's cache folder.

    Raises:
        UserError: the variable is a relative path, which workers in other folders would resolve differently.
    """
    chosen = os.environ.get(VARIABLE)
    if not chosen or "://" in chosen:
        return Path(platformdirs.user_cache_dir("softprior"))
    root = home_path(chosen)
    if not root.is_absolute():
        raise UserError(f"{VARIABLE} must be an absolute path, not '{chosen}'; try {root.absolute()}")
    return root


def shared_cache() -> RemotePath | None:
    """Where machines exchange what they have built, if SOFTPRIOR_CACHE is an address such as s3://BUCKET/FOLDER.

    Raises:
        UserError: it is an address of another kind.
    """
    chosen = os.environ.get(VARIABLE, "")
    found = location(chosen) if "://" in chosen else None
    return found if isinstance(found, RemotePath) else None


def ensure(relative: str, build: Callable[[Path], None], shared: bool = True) -> Path:
    """`cache_root() / relative`, built first if it does not exist.

    Of several processes one builds and the others wait. The build goes to a temporary sibling that
    is renamed at the end, so nobody ever sees a half-written result; what a killed build left behind
    is removed by the next one.

    Args:
        relative: place in the cache, with forward slashes.
        build: writes a file or a folder at the path it is given, which does not exist yet.
        shared: whether it is valid on other machines, which may then take it from `shared_cache()`.

    Raises:
        UserError: the cache folder is not writable, or its disk is full.
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
        except Exception as error:
            full = full_disk(error)
            if full is None:
                raise
            raise UserError(
                f"the cache folder {cache_root()} is full ({full}); free some space, or set "
                f"{VARIABLE} to a folder on another disk"
            ) from None
        finally:
            _remove(building)
    return target


def _exchange(remote: RemotePath, target: Path, build: Callable[[Path], None]) -> None:
    """Downloads what another machine has built, or builds and uploads it."""
    with tempfile.TemporaryDirectory(prefix=".exchange-", dir=target.parent) as folder:
        file = Path(folder) / "content.tar"
        try:
            remote.download(file)
            unpack(file, Path(folder) / "unpacked")
            (Path(folder) / "unpacked" / "content").rename(target)
            return
        except (FileNotFoundError, tarfile.TarError):
            pass
        build(target)
        with tarfile.open(file, "w") as archive:
            archive.add(target, "content")
        remote.upload(file)


def place(relative: str) -> Path:
    """`cache_root() / relative`, with its parent folder created.

    Raises:
        UserError: the cache folder is not writable.
    """
    parts = PurePosixPath(relative)
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"'{relative}' is not a place inside the cache")
    target = cache_root() / parts
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache folder {cache_root()} is not writable ({error.strerror}); "
            f"set {VARIABLE} to a writable folder"
        ) from None
    return target


def lock(relative: str) -> FileLock:
    """The lock of one place in the cache. The system releases it when its process ends, even if killed."""
    return FileLock(place(f"locks/{relative.replace('/', '--')}.lock"))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
