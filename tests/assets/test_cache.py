import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import softprior
from softprior.assets import fingerprints
from softprior.assets.cache import cache_root, ensure
from softprior.errors import UserError
from tests.disk import disk_of

BUILDER = """
import sys, time
from pathlib import Path
from softprior.assets.cache import ensure

log, seconds = Path(sys.argv[1]), float(sys.argv[2])

def build(path):
    path.mkdir()
    (path / "first").write_text("half")
    with log.open("a") as out:
        out.write("built\\n")
    time.sleep(seconds)
    (path / "second").write_text("whole")

print(sorted(p.name for p in ensure("things/one", build).iterdir()))
"""


def start(log: Path, seconds: float) -> subprocess.Popen[str]:
    source = str(Path(softprior.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(log), str(seconds)],
        env=os.environ | {"PYTHONPATH": source},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_folder_is_the_variable_or_the_users(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_root() == cache
    monkeypatch.setenv("SOFTPRIOR_CACHE", "")
    assert cache_root().name == "softprior"


def test_a_relative_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPRIOR_CACHE", "some/cache")
    with pytest.raises(UserError, match=r"must be an absolute path, not 'some/cache'; try /"):
        cache_root()


def test_an_unwritable_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SOFTPRIOR_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="is not writable"):
        ensure("thing", lambda path: path.write_text("") and None)


def test_a_full_disk_is_said_and_leaves_nothing(cache: Path) -> None:
    """Whichever library writes; what was built before stays, and the next try succeeds once there is room."""
    ensure("earlier", lambda path: path.write_text("kept") and None)
    tensors = {"a": torch.zeros(10_000)}
    for build in (lambda path: path.write_bytes(bytes(10_000)), lambda path: save_file(tensors, path)):
        with disk_of(5000), pytest.raises(UserError, match=f"the cache folder {cache} is full"):
            ensure("thing", build)
        assert sorted(path.name for path in cache.iterdir()) == ["earlier", "locks"]
    assert ensure("thing", lambda path: save_file(tensors, path)).exists()


def test_a_clock_that_jumps_builds_nothing_twice(cache: Path) -> None:
    """What is in the cache has no age: neither the future nor 1970 has it made again."""
    made = ensure("thing", lambda path: path.write_text("once") and None)
    for moment in (0, 2**33):
        os.utime(made, (moment, moment))
        assert ensure("thing", lambda path: pytest.fail(f"built again: {path}")) == made


@pytest.mark.usefixtures("cache")
def test_a_file_of_the_same_size_and_time_is_read_anew(tmp_path: Path) -> None:
    """Archives and `cp -p` set the time of what they write."""
    file, other = tmp_path / "weights", tmp_path / "others"
    file.write_text("first")
    first = fingerprints.of_file(file)
    other.write_text("other")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    assert fingerprints.of_file(file) != first


def test_places_outside_the_cache_are_refused() -> None:
    for relative in ("../thing", "/thing"):
        with pytest.raises(ValueError, match="not a place inside"):
            ensure(relative, lambda path: path.mkdir())


def test_several_processes_build_once(tmp_path: Path) -> None:
    processes = [start(tmp_path / "log", seconds=0.3) for _ in range(4)]
    outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert outputs == ["['first', 'second']"] * 4
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_killed_build_leaves_nothing_behind(tmp_path: Path, cache: Path) -> None:
    process = start(tmp_path / "log", seconds=600)
    while not (tmp_path / "log").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (cache / "things/one").exists()

    made = ensure("things/one", lambda path: path.mkdir())
    assert list(made.parent.iterdir()) == [made]
    assert list(made.iterdir()) == []


def test_a_failed_build_leaves_nothing_and_is_repeated(cache: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        ensure("thing", fail)
    assert [path.name for path in cache.iterdir()] == ["locks"]
    assert ensure("thing", lambda path: path.write_text("whole") and None).read_text() == "whole"
