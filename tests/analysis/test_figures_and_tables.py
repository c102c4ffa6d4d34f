"""Figures and tables from real results."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from analysis.figures import draw_trial
from analysis.tables import failures_table, load_trials, results_table
from softprior.methods import METHODS
from softprior.records import save_record
from softprior.results import StudyFolder
from softprior.studies.plan import plan_study
from softprior.studies.table import write_table
from softprior.studies.worker import failed
from softprior.study_files import load_study
from tests.builders import run, study_file, trial


@pytest.mark.parametrize("method", ["soft", "deep"])
def test_a_trial_is_drawn_with_one_panel_a_place(tmp_path: Path, method: str) -> None:
    from matplotlib.image import imread

    folder = StudyFolder(tmp_path)
    record = run(trial(method=METHODS[method](tokens=3)), tmp_path)
    path = draw_trial(record, folder)
    assert path == folder.figure(record.id)
    image = imread(path)
    assert image[..., :3].std() > 0.05, "the picture is blank"
    assert image.shape[1] > image.shape[0] * (0.9 * len(record.geometry))


def test_an_untrained_trial_has_nothing_to_draw(tmp_path: Path) -> None:
    record = run(trial(method=METHODS["none"]()), tmp_path)
    assert draw_trial(record, StudyFolder(tmp_path)) is None


def test_tables_show_finished_trials_and_say_why_others_failed(tmp_path: Path) -> None:
    plan = plan_study(load_study(study_file(tmp_path / "small.yaml")))
    folder = StudyFolder(tmp_path / "small")
    *finished, last = plan.trials
    records = {spec.id: run(spec, folder.root) for spec in finished}
    records[last.id] = failed(last, "step 3: the loss is nan", {})
    save_record(folder.record(last.id), records[last.id])
    write_table(folder, plan, records)
    trials = load_trials(folder.table)
    console = Console(width=160, record=True, file=(tmp_path / "out").open("w"))
    console.print(results_table(trials, "small"))
    console.print(failures_table(trials))
    text = console.export_text()
    best = records[finished[-1].id].test
    assert best is not None
    assert f"{best.loss:.3f}" in text
    assert "step 3: the loss is nan" in text
    assert text.count("soft") == 2
    assert failures_table(trials[trials.status == "finished"]) is None
