"""Archives: single members of wheels and source distributions, and tar files of softprior's own."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, TypeAlias

from softprior.errors import UserError

_Members: TypeAlias = Generator[tuple[str, IO[bytes] | None], None, None]
"""Name and content of each member; None where it is not a regular file."""


def extract(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    """Writes the named members into `folder`, each under the last part of its name.

    Args:
        archive: a wheel (`.whl`) or a gzipped tar file, which is read as a stream.
        members: full names in the archive.
        folder: is created if it does not exist.

    Raises:
        UserError: a member is missing, is not a regular file, or its name leads out of the archive; or the
            archive is damaged.
    """
    targets = {member: folder / _file_name(member, archive) for member in members}
    if len(set(targets.values())) < len(members):
        raise ValueError(f"two of the members {', '.join(members)} have the same file name")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with closing(_zipped(archive, members) if archive.suffix == ".whl" else _tarred(archive)) as stored:
            for name, content in stored:
                if name not in targets:
                    continue
                if content is None:
                    raise UserError(f"'{name}' in {archive.name} is not a regular file; it was not extracted")
                with targets.pop(name).open("wb") as out:
                    shutil.copyfileobj(content, out, 1 << 20)
                if not targets:
                    return
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise UserError(f"{archive} is damaged ({error}); remove it, and it is fetched again") from None
    raise UserError(
        f"{archive.name} has no member '{next(iter(targets))}'; the catalogue entry does not match this file"
    )


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a tar file of folders and regular files into a folder.

    Python's own filter for this came with 3.11.4, and Debian 12 has 3.11.2.

    Raises:
        tarfile.TarError: it is damaged or cut, a member is of another kind, or a name leads out of it.
    """
    try:
        with tarfile.open(archive) as stored:
            for info in stored:
                name = PurePosixPath(info.name)
                if name.is_absolute() or ".." in name.parts:
                    raise tarfile.TarError(f"the name '{info.name}' leads out of the archive")
                if info.isdir():
                    (folder / name).mkdir(parents=True, exist_ok=True)
                    continue
                content = stored.extractfile(info) if info.isreg() else None
                if content is None:
                    raise tarfile.TarError(f"'{info.name}' is not a regular file")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with content, (folder / name).open("wb") as out:
                    shutil.copyfileobj(content, out, 1 << 20)
            _require_end(stored)
    except (EOFError, lzma.LZMAError, zlib.error, ValueError, FileExistsError, NotADirectoryError) as error:
        raise tarfile.ReadError(f"it is damaged ({error})") from None


def _require_end(stored: tarfile.TarFile) -> None:
    """Behind its last member a tar file has a block of zeros, without which it is cut between two members."""
    assert stored.fileobj is not None
    stored.fileobj.seek(stored.offset)
    if stored.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end")


def join(parts: Sequence[Path], target: Path, sha256: str) -> None:
    """Writes one file of its parts, which are removed.

    Raises:
        UserError: the result has another SHA-256 than it should have.
    """
    with target.open("w+b") as out:
        for part in parts:
            with part.open("rb") as content:
                shutil.copyfileobj(content, out, 1 << 20)
            part.unlink()
        out.seek(0)
        found = hashlib.file_digest(out, "sha256").hexdigest()
    if found != sha256:
        target.unlink()
        raise UserError(
            f"{target.name}, joined from {len(parts)} parts, has the sha256 {found} and not {sha256}; it was "
            "removed, as the catalogue entry does not match these parts"
        )


def _file_name(member: str, archive: Path) -> str:
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts or "\\" in member or ":" in member or not path.name:
        raise UserError(f"the path '{member}' leads out of the archive {archive.name}; it was not extracted")
    return path.name


def _zipped(archive: Path, members: tuple[str, ...]) -> _Members:
    with zipfile.ZipFile(archive) as wheel:
        for info in wheel.infolist():
            if info.filename not in members:
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir() or kind not in (0, stat.S_IFREG):
                yield info.filename, None
            else:
                with wheel.open(info) as content:
                    yield info.filename, content


def _tarred(archive: Path) -> _Members:
    with tarfile.open(archive, "r|gz") as sdist:
        for info in sdist:
            yield info.name, sdist.extractfile(info) if info.isreg() else None
