"""Where results go: a folder of this machine (or one that all machines mount), or an object store."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from softprior.errors import UserError

STORES = ("s3", "gs")
"""Schemes of the object stores that pyarrow opens."""

NO_BUCKET = re.compile("NO_SUCH_BUCKET|bucket does not exist")
"""What S3 and Google say of a bucket that is not there."""

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for the command of a submitted job."""


@dataclass(frozen=True, order=True)
class RemotePath:
    """The part of pathlib's `Path` that results need, for an object store.

    An object is written in one step, so nobody sees half of one, and folders need not be made. Only the
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

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Puts the object in place in one step: readers see the old one or the new one."""
        with self._explained(writing=True), self._store.open_output_stream(self._key) as stream:
            stream.write(content)

    def download(self, path: Path) -> None:
        """Copies the object to a file of this machine."""
        from pyarrow.fs import LocalFileSystem, copy_files

        with self._explained():
            copy_files(self._key, str(path), self._store, LocalFileSystem())

    def upload(self, path: Path) -> None:
        """Puts a file of this machine in place, in one step for readers."""
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
        """Objects directly below this one by the end of their names, `*.json`."""
        from pyarrow.fs import FileSelector, FileType

        with self._explained():
            found = self._store.get_file_info(FileSelector(self._key, allow_not_found=True))
        end = pattern.removeprefix("*")
        yield from (
            self / file.base_name
            for file in found
            if file.type == FileType.File and file.base_name.endswith(end)
        )

    def modified(self) -> datetime | None:
        """When the object was written, by the store's clock; None if there is none."""
        with self._explained():
            found: datetime | None = self._store.get_file_info(self._key).mtime
        return found

    @property
    def _store(self) -> Any:
        return _store("/".join(self.uri.split("/")[:3]))

    @property
    def _key(self) -> str:
        return self.uri.partition("://")[2]

    @contextmanager
    def _explained(self, writing: bool = False) -> Iterator[None]:
        """Makes a sentence of what the store says, but for an object that is not there."""
        try:
            yield
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            # An object needs no folder, so what is missing when one is written is the bucket.
            if NO_BUCKET.search(str(error)) or (missing and writing):
                raise UserError(
                    f"{self.uri} is in no bucket there is; make it or correct the address"
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
def _store(bucket: str) -> Any:
    # Heavy, and of no use to those whose results stay here.
    from pyarrow.fs import FileSystem

    return FileSystem.from_uri(bucket)[0]


def location(text: str | Path) -> Location:
    """A path, or the address of a bucket or of something in one.

    Raises:
        UserError: an address of another kind.
    """
    scheme, separator, rest = str(text).partition("://")
    if not separator:
        return Path(text).expanduser().resolve()
    if scheme not in STORES or not re.fullmatch(r"[^/?#]+(/[^/?#]+)*/?", rest):
        raise UserError(
            f"results go to a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER, not to '{text}'; correct it"
        )
    return RemotePath(str(text).rstrip("/"))


def results_folder(text: str) -> Location:
    """What `--results` means.

    Raises:
        UserError: an address of another kind, or a relative path in a Ray job.
    """
    if JOB in os.environ and "://" not in text and not Path(text).expanduser().is_absolute():
        raise UserError(
            f"the working folder of a Ray job is thrown away, and --results = '{text}' lies in it; give an "
            "absolute path that all nodes share, or s3://BUCKET/FOLDER"
        )
    return location(text)


def listed(folder: Location, pattern: str) -> list[Location]:
    """Files directly in a folder by the end of their names, `*.json`, sorted."""
    found: list[Location] = [*folder.glob(pattern)]
    return sorted(found, key=str)


@contextmanager
def local_copy(path: Location) -> Iterator[Path]:
    """The file itself, or for as long as the context lasts a copy of the same name on this machine.

    Raises:
        FileNotFoundError: it is in an object store, and not there.
    """
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="softprior-") as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(path.read_bytes())
        yield copy
