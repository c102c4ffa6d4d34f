"""Nobody sees half a file."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprior.results.files import finite, write_atomically, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    write_atomically(path, lambda part: part.write_text("new"))
    assert path.read_text() == "new"
    assert names(path.parent) == ["file.txt"]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write(part: Path) -> None:
        part.write_text("ne")
        assert path.read_text() == "old"
        assert part.parent == path.parent  # a rename over file systems is not one step
        part.write_text("new")

    with path.open() as reader:
        write_atomically(path, write)
        assert reader.read() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write(part: Path) -> None:
        part.write_text("half")
        raise error

    with pytest.raises(error):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_writer_that_writes_nothing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError):
        write_atomically(path, lambda _: None)
    assert path.read_text() == "old"


WRITE_OFTEN = """
import sys
from pathlib import Path
from softprior.results.files import write_json
for _ in range(200):
    write_json(Path(sys.argv[1]), {"word": sys.argv[2] * 2000})
"""


def test_readers_among_several_writing_processes_see_whole_files(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"word": ""})
    writers = [subprocess.Popen([sys.executable, "-c", WRITE_OFTEN, path, word]) for word in "ab"]
    while any(writer.poll() is None for writer in writers):
        assert json.loads(path.read_text())["word"] in ("", "a" * 2000, "b" * 2000)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert json.loads(path.read_text())["word"] != ""
    assert names(tmp_path) == ["file.json"]


def test_json_has_null_for_what_is_not_finite(tmp_path):
    path = tmp_path / "file.json"
    value = {"a": [1.5, math.nan, (math.inf, {"b": -math.inf})], "c": np.float64("nan"), "d": "ä", "e": True}
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "a": [1.5, None, [None, {"b": None}]],
        "c": None,
        "d": "ä",
        "e": True,
    }
    assert path.read_text(encoding="utf-8").endswith("}\n")
    assert "ä" in path.read_text(encoding="utf-8")


def test_what_is_no_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert json.loads(path.read_text()) == {"old": 1}
    assert names(tmp_path) == ["file.json"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_values)
def test_finite_values_pass_unchanged(value):
    assert finite(value) == value
    assert json.loads(json.dumps(finite(value))) == value


def test_writers_of_the_same_process_id_do_not_meet(tmp_path):
    """As on two nodes that run the same container and share a folder."""
    path, seen = tmp_path / "file.txt", []

    def write(part: Path) -> None:
        seen.append(part.name)
        part.write_text("outer")
        if len(seen) == 1:
            write_atomically(path, write)
            part.write_text("outer")

    write_atomically(path, write)
    assert path.read_text() == "outer"
    assert len(set(seen)) == 2
    assert names(tmp_path) == ["file.txt"]
    assert all(name.startswith(".") for name in seen)  # so that a glob for files passes over them
