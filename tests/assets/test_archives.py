import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path

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

    for name, kind in (
        ("../out", tarfile.REGTYPE),
        (str(tmp_path / "out"), tarfile.REGTYPE),
        ("link", tarfile.SYMTYPE),
        ("device", tarfile.CHRTYPE),
    ):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc"
        with tarfile.open(tmp_path / "odd.tar", "w") as archive:
            archive.addfile(info)
        with pytest.raises(tarfile.TarError, match="no regular file inside of the archive"):
            unpack(tmp_path / "odd.tar", tmp_path / "here")
    assert not (tmp_path / "out").exists()
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:1030])
    with pytest.raises(tarfile.TarError):
        unpack(tmp_path / "cut.tar", tmp_path / "here")


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
