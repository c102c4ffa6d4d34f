"""A failure that the fuzzer finds can be seen again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprior.assets.cache import VARIABLE
from tests.hostile import fuzz
from tests.hostile.test_parsers import few


@few
@given(st.integers())
def even(number: int) -> None:
    assert number % 2 == 0


def test_a_failing_input_is_kept_and_its_seed_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fuzz, "test_parsers", SimpleNamespace(HERE=tmp_path, test_even=even))
    brief = ["--minutes", "0"]
    assert fuzz.main(brief) == 1
    seed = capsys.readouterr().out.splitlines()[0].split()
    (kept,) = tmp_path.glob("softprior-fuzz-*/test_even")
    assert fuzz.main([*brief, *seed]) == 1
    assert [path.read_bytes() for path in tmp_path.glob("softprior-fuzz-*/*")] == 2 * [kept.read_bytes()]
    with pytest.raises(AssertionError):
        fuzz.main([str(kept)])
    with pytest.raises(SystemExit):
        fuzz.main([str(tmp_path / "test_odd")])
