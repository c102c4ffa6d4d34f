import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

import pytest

from softprior.assets.archives import extract, join, unpack
from softprior.errors import UserError


def sdist(path: Path, **contents: bytes) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.txt", "text")
        archive.writestr("a/other.txt", "other")
        archive.writestr("../out.txt", "out")
        link = zipfile.ZipInfo("a/link.txt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    return path


def test_only_the_named_members_are_written(tmp_path: Path, wheel: Path) -> None:
    extract(wheel, ("a/data.txt",), tmp_path / "wheel")
    source = sdist(tmp_path / "a-1.tar.gz", **{"a-1/setup.py": b"1/0", "a-1/x": b"x", "a-1/b/y": b"y"})
    extract(source, ("a-1/b/y", "a-1/x"), tmp_path / "sdist")
    assert {path.name: path.read_text() for path in (tmp_path / "wheel").iterdir()} == {"data.txt": "text"}
    assert {path.name: path.read_text() for path in (tmp_path / "sdist").iterdir()} == {"x": "x", "y": "y"}


def test_a_tar_file_of_ours_is_unpacked_whole_and_nothing_leads_out_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "content"
    (folder / "inner" / "empty").mkdir(parents=True)
    (folder / "inner" / "file").write_bytes(b"numbers")
    whole = tmp_path / "whole.tar"
    with tarfile.open(whole, "w") as archive:
        archive.add(folder, "content")
    unpack(whole, tmp_path / "there")
    assert (tmp_path / "there" / "content" / "inner" / "file").read_bytes() == b"numbers"
    assert (tmp_path / "there" / "content" / "inner" / "empty").is_dir()

    out, kind = "leads out of the archive", "is not a regular file"
    for name, type_, said in (
        ("../out", tarfile.REGTYPE, out),
        (str(tmp_path / "out"), tarfile.REGTYPE, out),
        ("symbolic", tarfile.SYMTYPE, kind),
        ("hard", tarfile.LNKTYPE, kind),
        ("device", tarfile.CHRTYPE, kind),
    ):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = type_, "/etc"
        with tarfile.open(tmp_path / "odd.tar", "w") as archive:
            archive.addfile(info)
        with pytest.raises(tarfile.TarError, match=said):
            unpack(tmp_path / "odd.tar", tmp_path / "here")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("packed", ["w", "w:xz"])
def test_a_tar_file_that_is_cut_is_whole_or_damaged(tmp_path: Path, packed: Literal["w", "w:xz"]) -> None:
    names = ("one", "two")
    for name in names:
        (tmp_path / name).write_bytes(name.encode() * 300)
    whole, cut = tmp_path / "whole.tar", tmp_path / "cut.tar"
    with tarfile.open(whole, packed) as archive:
        for name in names:
            archive.add(tmp_path / name, name)
    content, damaged = whole.read_bytes(), 0
    lengths = range(0, len(content), 512 if packed == "w" else 7)
    for length in lengths:
        cut.write_bytes(content[:length])
        there = tmp_path / f"{length}"
        try:
            unpack(cut, there)
        except tarfile.TarError:
            damaged += 1
        else:
            assert all((there / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)
    assert damaged >= (9 if packed == "w" else len(lengths) // 2)
    # A file where a folder is to be.
    with tarfile.open(cut, "w") as archive:
        archive.add(tmp_path / "one", "at")
        archive.add(tmp_path / "one", "at/below")
    with pytest.raises(tarfile.TarError, match="damaged"):
        unpack(cut, tmp_path / "odd")


def test_a_file_is_joined_from_its_parts_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def parts() -> list[Path]:
        found = [folder / f"part{i}" for i in range(3)]
        for path, content in zip(found, (b"ab", b"", b"c"), strict=True):
            path.write_bytes(content)
        return found

    join(parts(), folder / "whole", hashlib.sha256(b"abc").hexdigest())
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("whole", b"abc")]
    with pytest.raises(UserError, match=r"from 3 parts, has the sha256 ba7816bf\w+ and not 0+;") as refused:
        join(parts(), folder / "whole", "0" * 64)
    assert "\n" not in str(refused.value)
    assert list(folder.iterdir()) == []
