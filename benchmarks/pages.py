"""How soon MLflow's pages show a large study: python -m benchmarks.pages --trials 1000

Records of generated trials are sent to an SQLite database as a study sends them. `jobs.ui` serves it, and
Chromium (with playwright, of the extra `dev`) opens three pages in turn, each in a fresh profile:

- the address that `jobs.ui` prints, until bars, points, lines and the list of trials are drawn;
- MLflow's own list of the same trials, the lowest test loss first, without the view;
- the same list from a copy of the database in which no run and no experiment has a tag of softprior's.

The last two say whether tags slow MLflow down. With --shots the first page is kept as a picture.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks.report import large_study
from softprior.inputs.base import DATABASE
from softprior.results.folder import StudyFolder
from softprior.tracking.client import default_uri
from softprior.tracking.mlflow_private import KIND, VIEW
from softprior.tracking.mlflow_tracker import MlflowTracker

STEPS = 50
"""Points of each trial's three curves."""

DRAWN = (".bars path", ".scatterlayer path.point", "canvas", "a[href*='/runs/']")
"""What is on the page once it is drawn: bars, points, lines of parallel coordinates, trials."""

FLAT = "?searchFilter=metrics.test_loss%20%3C%201000000&orderByKey=metrics.%60test_loss%60&orderByAsc=true"
"""What makes MLflow list trials in order of test loss, without a view."""

PATIENT = 600_000
"""Milliseconds until a page that shows nothing is given up."""


def main() -> None:
    """Writes the study, sends it, and prints a line for each page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trials", type=int, default=1000, help="default: 1000")
    parser.add_argument("--rounds", type=int, default=5, help="number of repetitions (default: 5)")
    parser.add_argument("--shots", type=Path, help="folder for pictures of the pages")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="softprior-pages-") as folder:
        tagged, bare = Path(folder) / "tagged", Path(folder) / "bare"
        count = _sent(tagged, options.trials)
        _without_tags(tagged, bare)
        with served(tagged) as compare, served(bare) as server:
            own, _, _ = compare.partition("?")
            without = server + own[own.index("/#/") :]
            ways = {
                "the comparison": (compare, DRAWN),
                "a list of MLflow's own": (own + FLAT, DRAWN[-1:]),
                "the same without tags": (without + FLAT, DRAWN[-1:]),
            }
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(options.rounds):
                for name, (address, drawn) in ways.items():
                    picture = options.shots and options.shots / f"{name.replace(' ', '-')}.png"
                    seconds[name].append(shown(address, drawn, picture))
    for name, own_seconds in seconds.items():
        each = ", ".join(f"{one:.1f}" for one in own_seconds)
        print(f"{count} trials, {name}: {median(own_seconds):.1f} s ({each})")


def _sent(root: Path, trials: int) -> int:
    """Writes a study of generated trials and sends it to MLflow; returns their number."""
    root.mkdir()
    plan, records = large_study(root, trials, STEPS)
    tracker = MlflowTracker(default_uri(root), plan.study, plan.trials, StudyFolder(root / "large"))
    tracker.close(records)
    assert tracker.problem is None, tracker.problem
    return len(plan.trials)


def _without_tags(tagged: Path, bare: Path) -> None:
    """A copy of a database without tags of softprior's, and without the view."""
    bare.mkdir()
    shutil.copy(tagged / DATABASE, bare)
    with closing(sqlite3.connect(bare / DATABASE)) as database, database:
        database.execute("DELETE FROM tags WHERE key LIKE 'softprior.%'")
        database.execute("DELETE FROM experiment_tags WHERE key LIKE ? OR key = ?", (f"{VIEW}%", KIND))


@contextmanager
def served(results: Path) -> Iterator[str]:
    """The pages on a free port, and the first address printed: a study's, or that of all pages."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "jobs.ui", "--results", str(results), "--port", port]
    # Into a file: a pipe that nobody reads would stop the server once its log has filled it.
    told = results / "told.txt"
    with open(told, "w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603  our own
    try:
        while not _answers(port):
            if process.poll() is not None:
                sys.exit(told.read_text())
            time.sleep(0.1)
        yield next(word for word in told.read_text().split() if word.startswith("http"))
    finally:
        process.terminate()
        process.wait()


def _answers(port: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
            return True
    except OSError:
        return False


def shown(address: str, drawn: tuple[str, ...], picture: Path | None) -> float:
    """Seconds until a fresh browser has drawn a page."""
    path = shutil.which("chromium")
    if path is None:
        sys.exit("there is no Chromium here; on Debian: apt-get install chromium")
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page: Any = opened.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(PATIENT)
        began = time.monotonic()
        page.goto(address)
        for selector in drawn:
            page.locator(selector).first.wait_for(state="attached")
        found = time.monotonic() - began
        if picture is not None:
            page.screenshot(path=picture)
        opened.close()
    return found


if __name__ == "__main__":
    main()
