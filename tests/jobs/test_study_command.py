"""The study command as a person meets it: help, dry run, and their own typos."""

from __future__ import annotations

import builtins
import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from jobs import activations
from jobs import study as command
from jobs.support.options import study_path
from softprior.activations.spec import ActivationsSpec
from softprior.assets.models import known_model
from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec, StudySpec
from softprior.inputs.study_files import COMMANDS, load_grid
from softprior.methods import METHODS
from softprior.results.files import file_lock
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Posterior, save_posterior
from softprior.studies import grid
from softprior.studies.cluster import Cluster, lacks_gpu
from softprior.studies.grid import Grid
from softprior.studies.plan import plan_study
from softprior.studies.runner import run_trials
from softprior.studies.search.spec import KEY
from softprior.studies.table import write_study, write_table
from softprior.training.events import Phase
from tests.builders import Finished, study_file, with_seeds
from tests.databases import empty_database

ROOT = Path(__file__).parents[2]

HIDDEN, VISIBLE = "\x1b[?25l", "\x1b[?25h"
"""What a terminal is told of its cursor."""


def test_a_dry_run_lists_trials_and_costs_and_writes_nothing(tmp_path: Path, capsys) -> None:
    file = study_file(tmp_path / "small.yaml", seeds=[0, 1])
    assert command.main([str(file), "--dry-run", "--results", str(tmp_path / "results")]) == 0
    output = capsys.readouterr().out
    assert "arithmetic, rate 0.05" in output, "what all have in common, once"
    assert output.count("  soft · ") == 4
    assert "5 trials" in output
    assert "p = 0.5 at best" in output
    assert "positions trained" in output
    assert not (tmp_path / "results").exists()


def test_a_dry_run_says_what_is_finished_and_leaves_everything_as_it_is(
    finished_study: Finished, tmp_path: Path, capsys
) -> None:
    folder = finished_study.copy(tmp_path)
    first, second = (trial.id for trial in finished_study.plan.trials[:2])
    folder.record(first).unlink()
    dry = [str(finished_study.file), "--dry-run", "--results", str(tmp_path / "results")]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert command.main(dry) == 0
    output = capsys.readouterr().out
    assert output.startswith(
        "study small: 2 of 3 trials are finished already\nstudy small: the costs below are those of the whole"
    )
    assert "3 trials on tiny" in output
    folder.record(second).write_text("{")
    assert command.main(dry) == 2
    said = capsys.readouterr().err
    damaged = f"{folder.record(second)} is not a record of format 1 (it is not valid JSON)"
    assert said == f"error: {damaged}; restore it, or delete it to run the trial again\n"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}.keys() == before.keys()


def test_a_file_where_results_should_go_is_refused_by_a_run_and_by_a_plan(tmp_path: Path, capsys) -> None:
    (tmp_path / "results").write_text("not a folder")
    file = study_file(tmp_path / "small.yaml", tracking={"enabled": False})
    for below in ("", "/deeper"):
        assert command.main([str(file), "--dry-run", "--results", f"{tmp_path}/results{below}"]) == 2
        said = f"error: {tmp_path}/results is a file, not a folder; choose another with --results\n"
        assert capsys.readouterr().err == said
    with (
        pytest.raises(UserError, match="is a file, not a folder"),
        file_lock(tmp_path / "results" / "small" / ".lock"),
    ):
        pytest.fail("a file is no folder")


def test_a_study_file_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come with softprior from anywhere, others as paths; a folder is not taken for a file."""
    along = ROOT / "jobs" / "studies"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    own = study_file(tmp_path / "small.yaml")
    for name, found in (
        ("demo", along / "demo.yaml"),
        ("demo.yaml", along / "demo.yaml"),
        ("small", Path("small.yaml")),
        (str(tmp_path / "small"), own),
    ):
        assert study_path(name) == found
    own.rename(tmp_path / "demo.yaml")
    assert study_path("demo") == Path("demo.yaml"), "one's own comes first"
    monkeypatch.chdir(ROOT)
    assert study_path("demo") == Path("jobs/studies/demo.yaml")
    shipped = "for the one that comes with softprior write demo; "
    for name, close in (
        ("dmo", "did you mean 'demo'? "),
        ("other/x", ""),
        ("x" * 253, ""),
        ("./demo", shipped),
        ("jobs/jobs/studies/demo.yaml", shipped),
    ):
        with pytest.raises(
            UserError, match=rf"no study file {name}; {re.escape(close)}.* activations, demo, "
        ):
            study_path(name)
    with pytest.raises(UserError, match=r"the name of the study file is empty; .* activations, demo, "):
        study_path("")


def test_a_file_of_another_command_names_it(tmp_path: Path, capsys) -> None:
    found = ROOT / "jobs" / "studies" / "activations.yaml"
    assert command.main([str(found), "--dry-run"]) == 2
    assert capsys.readouterr().err == (
        f"error: {found} is a file of another command; run: python -m jobs.activations {found}\n"
    )
    file = study_file(tmp_path / "small.yaml")
    assert activations.main([str(file), "--dry-run"]) == 2
    said = f"error: {file} is a file of another command; run: python -m jobs.study {file}\n"
    assert capsys.readouterr().err == said


def test_keys_that_tell_the_files_of_commands_apart_are_of_one_alone() -> None:
    fields = {
        "jobs.study": {*StudySpec.model_fields, KEY},
        "jobs.activations": {*ActivationsSpec.model_fields},
    }
    for one, other in (("jobs.study", "jobs.activations"), ("jobs.activations", "jobs.study")):
        assert COMMANDS[one] <= fields[one]
        assert not COMMANDS[one] & fields[other]


def test_a_dry_run_opens_the_data(tmp_path: Path, capsys) -> None:
    data = tmp_path / "pairs.json"
    data.write_text(json.dumps([{"question": f"Is it {i}?", "answer": "no"} for i in range(20)]))
    file = study_file(tmp_path / "small.yaml", tasks=[{"squad": {"data": str(data)}}])
    assert command.main([str(file), "--dry-run", "--results", str(tmp_path / "results")]) == 2
    error = capsys.readouterr().err
    assert f"{file}: tasks[0]: the SQuAD file {data} contains no usable question" in error
    assert "20 malformed rows left out, the first in pairs.json, [0]: no 'context'; it has quest" in error
    assert error.count("\n") == 1


def test_a_terminal_without_the_characters_gets_others(
    finished_study: Finished, tmp_path: Path, monkeypatch
) -> None:
    """A study that is whole already ends with its table, whose arrow is in neither encoding."""

    def said(encoding: str, *options: str) -> str:
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            assert command.main([str(finished_study.file), *options]) == 0
        stream.flush()
        return stream.buffer.getvalue().decode(encoding)

    results = str(finished_study.copy(tmp_path).root.parent)
    assert re.search(
        r"soft +\|fitted .* \d\.\d+\?\d\.\d+", said("ascii", "tracking.enabled=false", "--results", results)
    )
    for encoding, dot in (("ascii", "?"), ("latin-1", "·")):
        assert f"soft {dot} " in said(encoding, "--dry-run")


@pytest.mark.filterwarnings("ignore:the figures radii, prior-samples are left out")
def test_a_whole_study_ends_with_its_address_its_report_and_its_claims_and_runs_nothing(
    finished_study: Finished, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(Cluster, "start", lambda _: pytest.fail("nothing is to be run"))
    folder = with_seeds(finished_study, tmp_path, 2).root
    results = folder.parent
    empty_database(results)
    again = [str(finished_study.file), "seeds=[0,1]", "--again", "--results", str(results)]
    assert command.main(again) == 0
    said = capsys.readouterr().out
    assert "5 of 5 trials are finished already" in said
    assert "other code" not in said
    assert said.splitlines()[-2:] == [
        f"report   {folder / 'report.html'}",
        "claims   1 undecided (all exploratory; a new study, name=..., plans them); "
        f"python -m jobs.compare {folder} prior --findings",
    ]
    assert f"compare  {sys.executable} -m jobs.ui --results {results}\n" in said
    assert "and open http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=softprior&" in said


FILES = [path.name for path in sorted((ROOT / "jobs" / "studies").glob("*.yaml"))]


IDS = {
    "quickstart.yaml": (6, "15f4b29a459b8b1b"),
    "every_prior.yaml": (41, "f72a9a0f58bfd0c9"),
    "paper.yaml": (993, "8b95c97bc71224cb"),
}
"""Number and hash of trial ids. They change with results alone, so finished studies stay so."""


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("activations")])
def test_every_study_of_the_repository_plans(name: str, capsys, tmp_path: Path, monkeypatch) -> None:
    # What every_prior.yaml starts from: the results of tuned.yaml, which are in nobody's clone.
    monkeypatch.chdir(tmp_path)
    model = ModelSpec(id="tiny")
    shape = known_model(model).shape
    for method in (METHODS["soft"](tokens=8), METHODS["deep"](tokens=8, last=2), METHODS["prefix"](tokens=8)):
        places = method.places(shape.blocks)
        vectors = {place: torch.zeros(8, shape.width(place)) for place in places}
        header = {"trial": str(len(places)), "model": {"fingerprint": known_model(model).fingerprint}}
        path = tmp_path / "results" / "tuned" / "posteriors" / f"{len(places)}.safetensors"
        save_posterior(path, Posterior(header, vectors, vectors, {}))
    assert command.main([str(ROOT / "jobs" / "studies" / name), "--dry-run", "--all"]) == 0
    said = capsys.readouterr().out
    assert "positions trained" in said
    ids = re.findall(r"^  ([0-9a-f]{16})  ", said, re.MULTILINE)
    if name in IDS:
        assert (len(ids), hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]) == IDS[name]


WRONG = {
    "unknown key": ({"prior": ["isotropic"]}, "prior"),
    "unknown key, near search": ({"serach": {"trials": 3}}, "'serach'; did you mean 'search'? Known:"),
    "unknown key, near none": ({"xyz": 1}, "resources, search, seeds, tasks, tracking, training"),
    "unknown prior": ({"priors": ["isotropc"]}, "did you mean 'isotropic'"),
    "unknown method": ({"methods": ["sof"]}, "did you mean 'soft'"),
    "unknown task": ({"tasks": ["squadd"]}, "did you mean 'squad'"),
    "unknown parameter": (
        {"priors": [{"isotropic": {"scal": 1}}]},
        "did you mean 'priors[0].isotropic.scale'",
    ),
    "out of range": ({"priors": [{"isotropic": {"scale": -1}}]}, "-1"),
    "wrong type": ({"seeds": ["first"]}, "first"),
    "unknown model": ({"model": "smollm2"}, "smollm2-135m-instruct-q4_1"),
    "no such task data": ({"tasks": [{"squad": {"data": "./nothing.json"}}]}, "nothing.json"),
    "unknown task in by_task": (
        {"training": {"steps": 1, "batch": 1, "by_task": {"squad": {"steps": 1, "batch": 1}}}},
        "squad",
    ),
    "relative database": ({"tracking": {"uri": "sqlite:///mlflow.db"}}, "absolute"),
    "misspelt server": ({"tracking": {"uri": "htp://x"}}, "tracking.uri = 'htp://x': must be"),
    "no port": ({"tracking": {"uri": "http://host:abc"}}, "tracking.uri = 'http://host:abc': must be"),
    "no host": ({"tracking": {"uri": "http:///mlflow"}}, "must be an MLflow server"),
    "no address": ({"tracking": {"uri": "postgresql"}}, "postgresql://..."),
    "name with a path": ({"name": "../elsewhere"}, "../elsewhere"),
    "missing text": ({"priors": ["instruction"]}, "text"),
    "mode of language": (
        {"tasks": [{"language": {"mode": "cloze-like"}}]},
        "must be continue, the default, so leave it out; for a missing word, use the task cloze",
    ),
    "unknown module": ({"tasks": [{"arithmetic": {"modules": ["mull"]}}]}, "did you mean 'mul'"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_a_wrong_file_gets_one_helpful_sentence(case: str, tmp_path: Path, capsys) -> None:
    changes, hint = WRONG[case]
    file = study_file(tmp_path / "wrong.yaml", **changes)
    assert command.main([str(file), "--dry-run", "--results", str(tmp_path / "results")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: ")
    assert "wrong.yaml" in said
    assert hint in said
    assert not (tmp_path / "results").exists()


def test_a_run_says_of_a_wrong_file_what_a_dry_run_says(tmp_path: Path, capsys) -> None:
    """Where a study ran before; in a new folder Ray would be on its way by then, and take seconds to stop."""
    file = study_file(tmp_path / "wrong.yaml", priors=["isotropc"])
    table = StudyFolder(tmp_path / "results" / "small").table
    table.parent.mkdir(parents=True)
    table.touch()
    said = []
    for dry in ([], ["--dry-run"]):
        assert command.main([str(file), *dry, "--results", str(tmp_path / "results")]) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert list(table.parent.iterdir()) == [table]


def test_a_folder_is_no_database_and_a_plan_says_so_too(tmp_path: Path, capsys) -> None:
    """MLflow would try for minutes to open it, after the last trial."""
    uri = f"sqlite:///{tmp_path}"
    ranges = {"rates": [{"search": {"low": 0.01, "high": 0.1}}], "search": {"trials": 2}}
    for changes in ({}, ranges):
        file = study_file(tmp_path / "small.yaml", tracking={"uri": uri}, **changes)
        for dry in ([], ["--dry-run"]):
            assert command.main([str(file), *dry, "--results", str(tmp_path / "results")]) == 2
            sentence = (
                f"error: tracking.uri must name a database file, but {uri} is a folder; name a file in it"
            )
            assert capsys.readouterr().err == f"{sentence}, such as {uri}/mlflow.db\n"


def test_a_required_key_that_is_missing_is_named(tmp_path: Path, capsys) -> None:
    file = study_file(tmp_path / "wrong.yaml")
    study = yaml.safe_load(file.read_text())
    del study["training"]["steps"]
    file.write_text(yaml.safe_dump(study))
    assert command.main([str(file)]) == 2
    assert "training.steps" in capsys.readouterr().err


def test_a_results_folder_of_another_study_is_refused(tmp_path: Path, capsys) -> None:
    file = study_file(tmp_path / "small.yaml", tracking={"enabled": False})
    plan, folder = plan_study(load_grid(file)), StudyFolder(tmp_path / "small")
    write_study(folder, plan.spec, plan.trials)
    write_table(folder, plan.trials, plan.components, {})
    found = folder.root.rename(tmp_path / "other")
    before = StudyFolder(found).study.read_bytes()
    assert command.main([str(file), "name=other", "--results", str(tmp_path)]) == 2
    said = f"error: {found} contains the study 'small', not 'other'; choose another --results folder\n"
    assert capsys.readouterr().err == said
    assert StudyFolder(found).study.read_bytes() == before


def test_the_modules_in_jobs_are_the_commands() -> None:
    def is_command(path: Path) -> bool:
        return "\ndef main(" in path.read_text(encoding="utf-8")

    assert all(map(is_command, (ROOT / "jobs").glob("[a-z]*.py")))
    assert not any(map(is_command, (ROOT / "jobs" / "support").glob("*.py")))


def test_start_up_is_never_silent_until_the_first_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imports, planning and Ray take seconds each: a terminal shows at any time what it waits for.

    It hides its cursor for as long as it shows something that moves.
    """
    window = Console(file=io.StringIO(), force_terminal=True, width=120)
    shown: dict[str, bool] = {}
    look, bring_in = Grid.look, builtins.__import__

    def note(what: str) -> None:
        said = window.file.getvalue()
        shown[what] = said.rfind(HIDDEN) > said.rfind(VISIBLE)

    def imported(name: str, *given: Any) -> Any:
        if given and given[0] and given[0].get("__name__") == "jobs.study":
            note(name)
        return bring_in(name, *given)

    def looked(*given: Any) -> Any:
        note("look")
        return look(*given)

    def run_trials(study: Any, trials: Any, folder: Any, observers: Any, *_: Any, **__: Any) -> None:
        note("Ray")
        for observer in observers:
            observer.progress(trials[0], [Phase(0, "loading the model")])
        note("event")
        raise UserError("that is enough")

    monkeypatch.setattr(command, "screen", lambda: window)
    monkeypatch.setattr(Cluster, "start", lambda _: None)
    monkeypatch.setattr(grid, "run_trials", run_trials)
    monkeypatch.setattr(Grid, "look", looked)
    monkeypatch.setattr(builtins, "__import__", imported)
    file = study_file(tmp_path / "small.yaml", tracking={"enabled": False})
    assert command.main([str(file), "--results", str(tmp_path / "results")]) == 2
    assert {"analysis.figures.illustrator", "look", "Ray", "event"} <= set(shown)
    assert [what for what, live in shown.items() if not live] == []
    said = window.file.getvalue()
    order = ["planning the study", "trials on tiny", "starting Ray", "loading the model"]
    assert sorted(order, key=said.index) == order
    assert "preparing the run" in said


@pytest.mark.parametrize("module", ["jobs.study", "jobs.ui", "jobs.tiny"])
def test_every_entry_point_has_help(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_the_pages_need_results(tmp_path: Path, capsys) -> None:
    from jobs import ui

    assert ui.main(["--results", str(tmp_path)]) == 2
    assert "run a study first" in capsys.readouterr().err


def test_a_gpu_that_this_machine_lacks_is_refused_before_trials_and_noted_in_a_dry_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    file = study_file(tmp_path / "small.yaml", model={"id": "tiny", "device": "cuda"})
    assert command.main([str(file), "--results", str(tmp_path / "results")]) == 2
    assert "error: model.device = 'cuda', but torch sees no GPU" in capsys.readouterr().err
    assert not (tmp_path / "results").exists(), "nothing is left of it"
    study = load_grid(file)
    with pytest.raises(UserError, match=r"model\.device = 'cuda', but torch sees no GPU"):
        run_trials(study, [], StudyFolder(tmp_path / "none"), [], Cluster(study.resources))
    assert command.main([str(file), "--dry-run", "--results", str(tmp_path)]) == 0
    assert "note: model.device = 'cuda', but torch sees no GPU" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert lacks_gpu(study.model) is None
