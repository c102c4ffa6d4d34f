"""Where results go: a folder on this machine (or one that all machines mount), or an object store."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from softprior.errors import UserError
from softprior.inputs.base import parsed_json
from softprior.inputs.paths import home_path

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

STORES = ("s3", "gs")
"""Schemes of the object stores that pyarrow opens."""

NO_BUCKET = re.compile("NO_SUCH_BUCKET|bucket does not exist")
"""What S3 and Google say about a bucket that does not exist."""

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for the command of a submitted job."""


FIRST, LONGEST = 2**16, 10**8
"""Bytes of a file in a bucket that are requested first, and the most that a safetensors header may have."""


@dataclass(frozen=True, order=True)
class RemotePath:
    """The part of pathlib's `Path` that results need, for an object store.

    An object is written in one step, so nobody sees half of one, and folders need not be created. Only the
    address is kept, never credentials: those are in the environment of every process that opens it.

    Attributes:
        uri: `s3://BUCKET/KEY` or `gs://BUCKET/KEY`, without a slash at its end.
    """

    uri: str

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.uri}/{name}")

    @property
    def parent(self) -> RemotePath:
        return RemotePath(self.uri.rpartition("/")[0])

    @property
    def name(self) -> str:
        return self.uri.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0] or self.name

    def as_uri(self) -> str:
        return self.uri

    def exists(self) -> bool:
        """Whether there is an object of this name, or one below it."""
        with self._explained():
            return bool(self._store.get_file_info(self._key).type.value)

    def read_bytes(self) -> bytes:
        with self._explained(), self._store.open_input_file(self._key) as stream:
            return bytes(stream.readall())

    def read_start(self, count: int) -> bytes:
        """The first `count` bytes, or all if there are fewer."""
        with self._explained(), self._store.open_input_file(self._key) as stream:
            return bytes(stream.read_at(count, 0))

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Puts the object in place in one step: readers see the old one or the new one."""
        with self._explained(writing=True), self._store.open_output_stream(self._key) as stream:
            stream.write(content)

    def download(self, path: Path) -> None:
        """Copies the object to a file on this machine."""
        from pyarrow.fs import LocalFileSystem, copy_files

        with self._explained():
            copy_files(self._key, str(path), self._store, LocalFileSystem())

    def upload(self, path: Path) -> None:
        """Uploads a file of this machine, in one step for readers."""
        from pyarrow.fs import LocalFileSystem, copy_files

        with self._explained(writing=True):
            copy_files(str(path), self._key, LocalFileSystem(), self._store)

    def unlink(self, missing_ok: bool = False) -> None:
        with self._explained():
            try:
                self._store.delete_file(self._key)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Objects directly below this one whose names match a pattern such as `*.json`."""
        from pyarrow.fs import FileSelector, FileType

        with self._explained():
            found = self._store.get_file_info(FileSelector(self._key, allow_not_found=True))
        yield from (
            self / file.base_name
            for file in found
            if file.type == FileType.File and fnmatchcase(file.base_name, pattern)
        )

    def download_folder(self, folder: Path) -> None:
        """Copies all objects below this one to a folder on this machine."""
        for name, *_ in self.listing():
            inner = PurePosixPath(name).relative_to(self.name)
            if ".." in inner.parts:
                raise UserError(f"{self.parent}/{name} leads out of its folder; remove it")
            target = folder / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            (self.parent / name).download(target)

    def upload_folder(self, folder: Path) -> None:
        """Uploads all files of a folder of this machine, in the order in which they were written."""
        files = [path for path in folder.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: path.stat().st_mtime_ns):
            (self / path.relative_to(folder).as_posix()).upload(path)

    def remove_folder(self) -> None:
        """Removes all objects below this one, if there are any."""
        if self.exists():
            with suppress(FileNotFoundError), self._explained():  # Google's miss the folder's own object
                self._store.delete_dir(self._key)

    def listing(self) -> list[tuple[str, int, str]]:
        """Name below the parent, size and time of the object, or of all objects below it; sorted."""
        from pyarrow.fs import FileSelector, FileType

        with self._explained():
            own = self._store.get_file_info(self._key)
            below = FileSelector(self._key, recursive=True, allow_not_found=True)
            found = [own] if own.type == FileType.File else self._store.get_file_info(below)
        start = len(self._key) - len(self.name)
        return sorted((f.path[start:], f.size, str(f.mtime)) for f in found if f.type == FileType.File)

    def modified(self) -> datetime | None:
        """When the object was written, by the store's clock; None if there is none."""
        with self._explained():
            found: datetime | None = self._store.get_file_info(self._key).mtime
        return found

    @property
    def _store(self) -> FileSystem:
        return _store("/".join(self.uri.split("/")[:3]))

    @property
    def _key(self) -> str:
        return self.uri.partition("://")[2]

    @contextmanager
    def _explained(self, writing: bool = False) -> Iterator[None]:
        """Turns the store's errors into one sentence, except for an object that does not exist."""
        try:
            yield
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            # An object needs no folder, so what is missing when one is written is the bucket.
            if NO_BUCKET.search(str(error)) or (missing and writing):
                raise UserError(
                    f"the bucket of {self.uri} does not exist; create it or correct the address"
                ) from None
            if missing:
                raise
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(
                f"{self.uri} cannot be reached ({reason}); check the address, the network and the "
                "credentials in the environment"
            ) from None


Location = Path | RemotePath
"""A file or folder of results, wherever it is."""


@lru_cache
def _store(bucket: str) -> FileSystem:
    # Heavy, and of no use to those whose results stay here.
    from pyarrow.fs import FileSystem

    return FileSystem.from_uri(bucket)[0]


def location(text: str | Path) -> Location:
    """A path, or the address of a bucket or of something in one.

    Raises:
        UserError: an address of another kind, or the home of a user who does not exist.
    """
    scheme, separator, rest = str(text).partition("://")
    if not separator and not re.match(r"(s3|gs|https?):", str(text)):
        return home_path(text).resolve()
    if scheme not in STORES or not re.fullmatch(r"[^/?#]+(/(?!\.\.?(/|$))[^/?#]+)*/?", rest):
        raise UserError(
            f"'{text}' is not a valid location; give a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"
        )
    if "@" in rest.partition("/")[0]:
        raise UserError(
            f"'{text}' contains credentials; put them into the environment, and give {scheme}://BUCKET/FOLDER"
        )
    return RemotePath(str(text).rstrip("/"))


def results_folder(text: str) -> Location:
    """What `--results` means.

    Raises:
        UserError: as `location`, or for a relative path in a Ray job.
    """
    if JOB in os.environ and "://" not in text and not home_path(text).is_absolute():
        raise UserError(
            f"--results = '{text}' is in the working folder of a Ray job, which is deleted after the job; "
            "give an absolute path that all nodes share, or s3://BUCKET/FOLDER"
        )
    return location(text)


def listed(folder: Location, pattern: str) -> list[Location]:
    """Files directly in a folder whose names match a pattern such as `*.json`, sorted."""
    found: list[Location] = [*folder.glob(pattern)]
    return sorted(found, key=str)


def remove_folder(folder: Location) -> None:
    """Removes a folder and everything in it, if it exists."""
    if isinstance(folder, RemotePath):
        folder.remove_folder()
    elif folder.exists():
        shutil.rmtree(folder)


def tensor_header(path: RemotePath) -> bytes:
    """The JSON at the start of a safetensors file, behind eight bytes that say how long it is.

    Raises:
        ValueError: the file ends within it.
    """
    size = FIRST
    while True:
        start = path.read_start(size)
        end = 8 + int.from_bytes(start[:8], "little")
        if end <= len(start):
            return start[8:end]
        if len(start) < size or end > LONGEST:
            raise ValueError("its header is cut short")
        size = end


def tensor_metadata(path: RemotePath) -> dict[str, str]:
    """The metadata of a safetensors file, of which only the start is fetched.

    Raises:
        ValueError: the file has none, or is damaged.
    """
    header = parsed_json(tensor_header(path).decode())
    found = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("its header has no metadata of texts")
    return found


@contextmanager
def local_folder(folder: Location) -> Iterator[Path]:
    """The folder itself, or a copy of it on this machine for as long as the context lasts."""
    if isinstance(folder, Path):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="softprior-") as copy:
        folder.download_folder(Path(copy))
        yield Path(copy)


@contextmanager
def replaced_folder(folder: Location) -> Iterator[Path]:
    """A new folder on this machine, which replaces the old one when the context ends without an error.

    In a bucket, files are uploaded one after another, and old files without a new version remain.
    """
    if isinstance(folder, RemotePath):
        with tempfile.TemporaryDirectory(prefix="softprior-") as filled:
            yield Path(filled)
            folder.upload_folder(Path(filled))
        return
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    yield new
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


@contextmanager
def local_copy(path: Location) -> Iterator[Path]:
    """The file itself, or a copy of the same name on this machine for as long as the context lasts.

    Raises:
        FileNotFoundError: it is in an object store and does not exist.
    """
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="softprior-") as folder:
        copy = Path(folder) / path.name
        path.download(copy)
        yield copy
