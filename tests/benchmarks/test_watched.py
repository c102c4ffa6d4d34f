"""Commands that are watched: time and memory of all their processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.watched import pss, resident, spent, watched

CHILD = """
import time
held = bytearray(100_000_000)
end = time.process_time() + 1
while time.process_time() < end:
    pass
time.sleep(4)
"""


def test_a_child_counts_too(tmp_path: Path) -> None:
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}], check=True)"
    found = watched([sys.executable, "-c", program], os.environ, tmp_path / "output.txt")
    assert 1 <= found.cpu <= found.seconds + 1
    assert found.seconds >= 5
    assert 100 <= found.memory <= 200


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    program = [sys.executable, "-c", "raise SystemExit('it is the wrong year')"]
    with pytest.raises(SystemExit, match="it is the wrong year"):
        watched(program, os.environ, tmp_path / "output.txt")


def test_a_process_that_has_ended_has_neither_time_nor_memory() -> None:
    gone = 2**22 + 1  # more than the kernel gives to any process
    assert spent(gone) is None
    assert pss(gone) == resident("VmRSS", gone) == 0
    assert resident("VmHWM") >= resident("VmRSS") > 1
