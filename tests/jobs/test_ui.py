"""MLflow's pages: served, and ended with every process behind them."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from jobs import ui
from tests.databases import empty_database

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    empty_database(folder)
    return folder


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.faults), signal.SIGTERM])
def test_the_pages_end_with_all_their_processes(number: signal.Signals, results: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.ui", "--results", str(results), "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not _answers(port):
        assert process.poll() is None
        time.sleep(0.1)
    assert len(_processes_of(results)) > 2, "the command, MLflow's, and its server"
    process.send_signal(number)
    assert process.wait() == (0 if number == signal.SIGINT else 128 + number)
    assert _processes_of(results) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "s3://bucket/results",
            r"--results = 's3://bucket/results' is a bucket, .*\(tracking\.uri\) in a browser",
        ),
        (
            "ftp://bucket/results",
            "is not a valid location; give a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER",
        ),
        ("nowhere", r"nowhere has no mlflow\.db; run a study first"),
    ],
)
def test_where_there_are_no_pages_one_sentence_says_so(text: str, said: str, capsys) -> None:
    assert ui.main(["--results", text]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error)
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
            return True
    except OSError:
        return False


def _processes_of(results: Path) -> list[int]:
    """Processes with a folder's name in their command line or their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if str(results).encode() in told:
            found.append(int(folder.name))
    return found
