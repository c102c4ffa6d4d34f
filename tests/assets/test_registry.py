import hashlib
import re
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from softprior.assets.catalogue import RegistryFile
from softprior.assets.registry import fetch
from softprior.errors import UserError

NAME = "some_data-1.0-cp39-cp39-win_amd64.whl"
PYTHON_INDEX = "https://an.index.invalid/simple"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "links" / NAME
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.txt", "text " * 100_000)
    return path


def described(path: Path, **changes: str | int) -> RegistryFile:
    content = path.read_bytes()
    known = {
        "project": "some-data",
        "version": "1.0",
        "filename": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    return RegistryFile.model_validate(known | changes)


class Server(ThreadingHTTPServer):
    """Serves one folder with byte ranges; breaks the connection after `breaks_after` bytes, once."""

    def __init__(self, folder: Path, breaks_after: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.breaks_after = breaks_after
        self.ranges: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path == "/":
            links = "".join(f'<a href="{p.name}">{p.name}</a>' for p in self.server.folder.iterdir())
            self.answer(200, links.encode(), "text/html")
            return
        content = (self.server.folder / self.path[1:]).read_bytes()
        wanted = self.headers["Range"]
        self.server.ranges.append(wanted)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        self.answer(206 if wanted else 200, content[start:], "application/octet-stream")

    def answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if kind != "text/html" and self.server.breaks_after is not None:
            content, self.server.breaks_after = content[: self.server.breaks_after], None
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(tmp_path / "links") as server:
        monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_port}/")
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def test_a_file_is_fetched_from_a_folder_once(wheel: Path, cache: Path) -> None:
    file = described(wheel)
    assert fetch(file) == cache / "downloads" / NAME
    wheel.unlink()
    assert hashlib.sha256(fetch(file).read_bytes()).hexdigest() == file.sha256
    assert [path.name for path in (cache / "downloads").iterdir()] == [NAME]


def test_a_file_is_found_in_a_local_index(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "index" / "some-data"
    page.mkdir(parents=True)
    (page / "index.html").write_text(f'<a href="{wheel.as_uri()}">{NAME}</a>')
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", PYTHON_INDEX)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", page.parent.as_uri())
    assert fetch(described(wheel)).read_bytes() == wheel.read_bytes()


def test_other_bytes_than_the_catalogues_are_removed(
    wheel: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="another size or sha256 and was removed"):
        fetch(described(wheel, sha256="0" * 64))
    assert "removing it" in " ".join(capsys.readouterr().err.split())
    assert list((cache / "downloads").iterdir()) == []


def test_a_corrupt_file_in_the_cache_is_fetched_again(wheel: Path, cache: Path) -> None:
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / NAME).write_bytes(b"x" * wheel.stat().st_size)
    assert fetch(described(wheel)).read_bytes() == wheel.read_bytes()


def test_a_file_put_by_hand_is_taken(wheel: Path, cache: Path) -> None:
    (cache / "downloads").mkdir(parents=True)
    wheel.rename(cache / "downloads" / NAME)
    file = described(cache / "downloads" / NAME)
    assert fetch(file).stat().st_size == file.size


def test_a_started_download_is_continued(wheel: Path, cache: Path, server: Server) -> None:
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / f"{NAME}.part").write_bytes(wheel.read_bytes()[:300])
    assert fetch(described(wheel)).read_bytes() == wheel.read_bytes()
    assert server.ranges == ["bytes=300-"]


def test_a_part_of_another_file_is_started_anew(wheel: Path, cache: Path, server: Server) -> None:
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / f"{NAME}.part").write_bytes(b"x" * 300)
    assert fetch(described(wheel)).read_bytes() == wheel.read_bytes()
    assert server.ranges == ["bytes=300-", None]


def test_a_broken_connection_is_continued(wheel: Path, server: Server) -> None:
    server.breaks_after = 500
    assert fetch(described(wheel)).read_bytes() == wheel.read_bytes()
    assert server.ranges == [None, "bytes=500-"]


def test_without_network_one_sentence_says_what_to_do(
    wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = described(wheel, size=93_000_000)
    wheel.unlink()
    monkeypatch.setenv("PIP_FIND_LINKS", "http://127.0.0.1:9/")
    with pytest.raises(UserError) as refusal:
        fetch(file)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{NAME} (93 MB) is not in the cache and could not be fetched (")
    assert sentence.endswith(f"run once with network access, or put the file at {cache / 'downloads' / NAME}")
    assert "\n" not in sentence
