"""The limit of a trial's silence: real processes that hang are ended, and those that work are not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from softprior.activations.spec import ActivationsSpec
from softprior.errors import UserError
from softprior.inputs.study_files import load_grid
from softprior.inputs.validation import validate
from softprior.results.records import StepPoint
from softprior.studies.plan import plan_study
from softprior.studies.reporting import Reporter
from softprior.studies.watchdog import stalls
from softprior.training.events import Phase, Step
from tests.builders import study_file

PROCESS = """
import ctypes, sys, threading, time
from pathlib import Path
from softprior.assets.cache import ensure
from softprior.liveness import alive, waiting
from softprior.studies import watchdog

watchdog.GRACE = 0.5

def never_ends():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

def never_gives_the_lock_back():
    ctypes.PyDLL(None).sleep(600)

def works():
    for _ in range(15):
        time.sleep(0.1)
        alive()

def waits():
    with waiting():
        time.sleep(1.5)
    ensure("built", lambda path: (time.sleep(1.5), path.touch()))

with watchdog.watched(float(sys.argv[2]) / 60, Path(sys.argv[3]), lambda: "step 20"):
    for name in sys.argv[1].split():
        globals()[name]()
"""


def ran(what: str, seconds: float, path: Path) -> int:
    """The exit status of a process that does something under a limit."""
    command = [sys.executable, "-c", PROCESS, what, str(seconds), str(path)]
    return subprocess.run(command, timeout=120, capture_output=True, check=False).returncode


def test_a_process_that_hangs_is_ended_and_leaves_its_stacks(tmp_path: Path) -> None:
    path = tmp_path / "errors" / "one-stalls.txt"
    assert ran("never_ends", 0.6, path) == 1
    assert stalls(path) == ["step 20"]
    assert path.read_text().startswith("no sign of life for 0.01 minutes: step 20\n")
    assert re.search(r"in never_ends$", path.read_text(), re.MULTILINE)
    assert ran("never_gives_the_lock_back", 0.6, path) == 1  # at once, before the first look
    assert stalls(path) == ["step 20", ""], "Python's own timer says when, but not at which step"
    assert re.search(r"in never_gives_the_lock_back$", path.read_text(), re.MULTILINE)


def test_work_waiting_and_building_are_no_hang(tmp_path: Path) -> None:
    path = tmp_path / "errors" / "one-stalls.txt"
    assert ran("works waits", 0.7, path) == 0
    assert not path.exists()


def test_a_trial_says_what_it_was_at() -> None:
    reporter = Reporter(lambda _: None)
    assert reporter.where() == "step 0"
    reporter(Phase(0, "fitting vae", "place 2 of 30"))
    assert reporter.where() == "step 0, fitting vae place 2 of 30"
    reporter(Step(StepPoint(step=20, loss=1.0, rate=0.1, gradient=1.0, moved=0.1), 30))
    assert reporter.where() == "step 20"


def test_patience_is_no_part_of_a_trials_identity_and_must_have_an_effect(tmp_path: Path) -> None:
    patient, plain = (
        plan_study(load_grid(study_file(tmp_path / "study.yaml"), overrides))
        for overrides in (("resources.patience=30",), ())
    )
    assert patient.study.resources.patience == 30
    assert [trial.id for trial in patient.trials] == [trial.id for trial in plain.trials]
    with pytest.raises(UserError, match=r"resources\.patience"):
        load_grid(study_file(tmp_path / "study.yaml"), ("resources.patience=0",))
    data = {"name": "one", "model": "tiny", "tasks": ["arithmetic"], "resources": {"patience": 5}}
    with pytest.raises(UserError, match=r"resources\.patience belongs to studies"):
        validate(ActivationsSpec, data, "one.yaml")
