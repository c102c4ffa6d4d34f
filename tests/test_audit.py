"""The audit of requirements.lock: known holes fail it, dated exceptions end, and silence is said."""

from __future__ import annotations

import importlib.util
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "audit.py"
TODAY = date(2026, 11, 27)
HOLE = {"id": "GHSA-1", "aliases": ["CVE-1"], "fix_versions": ["2.0"]}
SOUND = {"name": "sound", "version": "1.0", "vulns": []}
HOLED = {"name": "holed", "version": "1.0", "vulns": [HOLE]}
UNKNOWN = {"name": "unknown", "version": "1.0", "skip_reason": "Dependency not found on PyPI"}


def audit(folder: Path, said: str, ignored: str = "") -> int:
    """Runs the audit on what pip-audit would say."""
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    program, exceptions = folder / "pip-audit", folder / "ignored.txt"
    program.write_text(f"#!{sys.executable}\nprint({said!r})\n")
    program.chmod(0o755)
    exceptions.write_text(f"# comment\n{ignored}")
    return int(module.main(str(program), folder / "requirements.lock", exceptions, TODAY))


@pytest.mark.parametrize(
    ("packages", "ignored", "status", "says"),
    [
        ([SOUND], "", 0, "0 known holes in 1 packages\n"),
        ([SOUND, HOLED], "", 1, "holed 1.0 has the known hole GHSA-1; fixed in: 2.0"),
        ([HOLED], "CVE-1 2026-11-27 not used here", 0, "0 known holes"),
        ([HOLED], "CVE-1 2026-11-26 not used here", 1, "CVE-1 until 2026-11-26, which has passed"),
        ([SOUND, UNKNOWN], "", 0, "no advisory service answered about 1 others"),
    ],
)
def test_what_is_known_decides(
    packages: Any, ignored: str, status: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(tmp_path, json.dumps({"dependencies": packages}), ignored) == status
    assert says in capsys.readouterr().out


def test_silence_is_said_and_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(tmp_path, "no JSON") == 0
    assert "no advisory service answered, so nothing is known" in capsys.readouterr().out
