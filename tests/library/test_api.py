"""docs/api.md runs as it stands there, and uses everything that softprior offers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from beartype.door import is_bearable

import softprior
from softprior.inputs import components
from softprior.training import own_code
from tests.databases import empty_database

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = list(re.finditer(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def forgotten() -> Iterator[None]:
    """The prior of one's own that the page makes known is not known to other tests."""
    yield
    components._OWN.clear()
    own_code._IN_USE.clear()


@pytest.mark.ray
def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], forgotten: None
) -> None:
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    monkeypatch.chdir(tmp_path)
    empty_database(tmp_path / "results")
    names: dict[str, Any] = {}
    for match in BLOCKS:
        line = PAGE.count("\n", 0, match.start()) + 1
        exec(compile("\n" * line + match[1], "docs/api.md", "exec", dont_inherit=True), names)
    said = capsys.readouterr().out
    assert said.startswith("3 trials on tiny")
    assert said.count(" finished\n") == 3
    assert names["results"].trials.status.eq("finished").all()
    for name, stated in names["__annotations__"].items():
        assert is_bearable(names[name], stated), f"{name} is no {stated}"


def test_every_name_is_used_in_an_example() -> None:
    used = {name for block in BLOCKS for name in re.findall(r"\bsp\.(\w+)", block[1])}
    assert used == set(softprior.__all__)


def test_the_table_of_results_names_what_results_have() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    offered = {name for name in vars(softprior.Results) if not name.startswith("_")}
    assert len(named) > 10
    assert set(named) <= offered


def test_names_come_when_they_are_used_and_not_before() -> None:
    script = (
        "import sys, softprior as sp\n"
        "assert not {'torch', 'ray', 'pandas', 'pydantic', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert all(getattr(softprior, name) is not None for name in softprior.__all__)
    assert not hasattr(softprior, "nothing")
