"""MLflow's pages: served, and ended with every process behind them."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import ui
from softprior.inputs.labels import labels
from softprior.tracking.mlflow_tracker import MlflowTracker
from tests.browser import Browser
from tests.builders import Finished
from tests.databases import empty_database
from tests.signals import hear_ctrl_c

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a study of three trials, in MLflow too."""
    folder = finished_study.copy(tmp_path_factory.mktemp("pages"))
    uri = empty_database(folder.root.parent)
    tracker = MlflowTracker(uri, finished_study.plan.study, finished_study.plan.trials, folder)
    tracker.close(finished_study.records)
    assert tracker.problem is None
    return folder.root.parent


class Pages:
    """The command, serving on a free port.

    Attributes:
        compare: the address that it prints for the study.
    """

    def __init__(self, results: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.results = results
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobs.ui", "--results", str(results), "--port", str(self.port)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=hear_ctrl_c,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("starting MLflow")
        self.compare = self.process.stdout.readline().strip().removeprefix("compare small: ")
        while not _answers(self.port):
            assert self.process.poll() is None
            time.sleep(0.1)

    def end(self, number: signal.Signals) -> None:
        """Ends it, and sees that nothing is left of it."""
        assert len(_processes_of(self.results)) > 2, "the command, MLflow's, and its server"
        self.process.send_signal(number)
        self.process.communicate()
        assert self.process.returncode == (0 if number == signal.SIGINT else 128 + number)
        assert _processes_of(self.results) == []


@pytest.fixture(scope="module")
def pages(results: Path) -> Iterator[Pages]:
    """Served for this file, and ended by SIGTERM with all processes behind them."""
    found = Pages(results)
    yield found
    found.end(signal.SIGTERM)


@pytest.mark.faults
def test_ctrl_c_ends_the_pages_with_all_their_processes(results: Path) -> None:
    Pages(results).end(signal.SIGINT)


@pytest.mark.faults
def test_ctrl_c_while_the_pages_start_ends_without_a_traceback(results: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.ui", "--results", str(results)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("starting MLflow")
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", "\nstopped before the pages opened\n")
    assert process.returncode == 130


def test_the_command_prints_one_address_for_the_study(pages: Pages) -> None:
    assert pages.compare.startswith(f"http://127.0.0.1:{pages.port}/#/experiments/1/runs?viewStateShareKey=")


def test_the_address_opens_trials_side_by_side(
    pages: Pages, browser: Browser, finished_study: Finished, tmp_path: Path
) -> None:
    """What a person sees who opens it: all trials, the best first, and charts with something in them."""
    page = browser.page
    page.goto(pages.compare)
    # The number of charts: none is hidden for want of data.
    page.wait_for_function(r"/Trials\s*\(6\)/.test(document.body.innerText)")
    trials = sorted(finished_study.records.values(), key=lambda record: record.test.loss)
    known = labels(finished_study.plan.trials)
    links = page.locator("[role=grid] a[href*='/runs/'], .ag-root a[href*='/runs/']")
    page.get_by_text("3 matching runs").wait_for()
    links.nth(2).wait_for(state="attached")
    assert list(dict.fromkeys(links.all_inner_texts())) == [known[record.id] for record in trials]
    page.locator(".js-plotly-plot .bars path").first.wait_for(state="attached")
    page.locator(".js-plotly-plot .scatterlayer path.point").first.wait_for(state="attached")
    page.locator("canvas").first.wait_for(state="attached")  # lines of parallel coordinates
    page.screenshot(path=tmp_path / "charts.png")

    page = page.context.new_page()  # a reloaded page shows what MLflow last kept of it, not the shared view
    page.set_viewport_size({"width": 2400, "height": 900})  # columns out of sight are not made
    page.goto(pages.compare.replace("=CHART", "=TABLE"))
    for name in ("task", "method", "prior", "rate", "seed", "test_loss", "test_exact_match"):
        page.get_by_test_id(f"sort-header-{name}").or_(page.get_by_text(name, exact=True)).first.wait_for()
    page.get_by_text(re.compile(re.escape(f"{trials[0].test.loss:.6f}"[:5]))).first.wait_for()
    page.screenshot(path=tmp_path / "table.png")
    assert browser.errors == []
    own = (f"http://127.0.0.1:{pages.port}/", "data:", "blob:")
    assert [address for address in browser.requests if not address.startswith(own)] == []


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


def test_an_address_nobody_can_listen_on_is_one_sentence(tmp_path: Path, capsys) -> None:
    (tmp_path / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for words, said in (
            (["--port", "99999"], r"--port must be 1 to 65535, not 99999; give another one"),
            (
                ["--port", str(taken.getsockname()[1])],
                r"nothing can listen on \S+ \(Address already in use\); ",
            ),
            (["--host", "192.0.2.1"], r"nothing can listen on 192\.0\.2\.1:5000 \(Cannot assign .*\); "),
            (["--host", "\udcff"], r"it is no name of a machine"),
        ):
            assert ui.main(["--results", str(tmp_path), *words]) == 2
            assert re.search(f"error: .*{said}", capsys.readouterr().err)


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
