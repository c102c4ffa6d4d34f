"""Ctrl-C and SIGTERM: heard at once, and nothing is left behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from jobs.support.exits import status_of
from softprior.errors import LeftOutWarning
from tests.builders import study_file
from tests.signals import hear_ctrl_c

ROOT = Path(__file__).parents[2]


def caught(pid: int) -> int:
    """The signals that a process has handlers for, a bit each."""
    found = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1], 16)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_study_that_is_stopped_early_says_so_and_is_gone(number: signal.Signals, tmp_path: Path) -> None:
    file = study_file(tmp_path / "small.yaml")
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.study", str(file), "--results", str(tmp_path / "results")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=hear_ctrl_c,
    )
    while not caught(process.pid) >> (signal.SIGTERM - 1) & 1:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == 128 + number, output
    assert output.strip() == "stopped before any trial was started"


def test_one_signal_stops_in_order_and_another_ends_the_process() -> None:
    code = (
        "import os, signal\n"
        "from jobs.support import stopping\n"
        "with stopping.stoppable('early', 'late') as stop:\n"
        "    stop.orderly = True\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    except KeyboardInterrupt:\n"
        "        print('heard', stop.status)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('timeout sends two')\n"
        "    stopping.AGAIN = 0\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('not reached')\n"
    )
    done = subprocess.run([sys.executable, "-u", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 143, done.stderr
    assert done.stdout.splitlines() == ["heard 143", "timeout sends two"]
    assert done.stderr.split() == ["late"]


def test_a_signal_after_the_work_says_what_is_left() -> None:
    code = (
        "import os, signal\n"
        "from jobs.support import stopping\n"
        "with stopping.stoppable('early', 'late') as stop:\n"
        "    stop.orderly, stop.ended = True, 'ended'\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "ended" in done.stderr.split()
    assert "late" not in done.stderr


def test_what_is_left_out_is_a_note_and_other_warnings_stay(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        warnings.warn("figures of two cells are left out", LeftOutWarning, stacklevel=1)
        warnings.warn("the year is new", UserWarning, stacklevel=1)
        return 0

    with warnings.catch_warnings(record=True) as others:
        warnings.simplefilter("always")
        assert status_of(work) == 0
    assert capsys.readouterr().err == "note: figures of two cells are left out\n"
    assert [str(other.message) for other in others] == ["the year is new"]


def test_a_signal_that_is_ignored_stays_so() -> None:
    code = (
        "import os, signal\n"
        "from jobs.support.stopping import stoppable\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "with stoppable('early', 'late'):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
