"""Trials of a running study are drawn beside it."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.figures import at_the_end
from analysis.figures.ending import Ending
from analysis.figures.illustrator import Illustrator
from analysis.figures.left_out import Drawn
from softprior.errors import UserError
from tests.builders import Finished


def hanging() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])


def test_trials_are_drawn_in_a_process_of_their_own_or_at_the_end(
    finished_study: Finished, tmp_path: Path
) -> None:
    folder, trials = finished_study.copy(tmp_path), finished_study.plan.trials
    folder.table.unlink(missing_ok=True)  # without it there is no study to draw
    trained = [r for r in finished_study.records.values() if r.spec.prior is not None]
    for trial in trained:
        folder.figure(trial.id).unlink(missing_ok=True)
    illustrator = Illustrator(folder, trials, patience=0)
    illustrator.ended(trained[0])
    assert illustrator._process is not None
    illustrator._patience = 60
    illustrator.ended(trained[1])
    assert illustrator._process.wait() == 0
    assert [folder.figure(trial.id).exists() for trial in trained[:2]] == [True, False]
    illustrator.close(finished_study.records)
    assert all(folder.figure(trial.id).exists() for trial in trained)


def test_neither_a_damaged_trial_nor_a_process_that_hangs_costs_others_their_figures(
    finished_study: Finished, tmp_path: Path
) -> None:
    folder, records = finished_study.copy(tmp_path), finished_study.records
    folder.table.unlink(missing_ok=True)  # without it there is no study to draw
    damaged, other = [r.id for r in records.values() if r.spec.prior is not None][:2]
    for trial in (damaged, other):
        folder.figure(trial).unlink()
    folder.posterior(damaged).write_bytes(b"half")
    illustrator = Illustrator(folder, finished_study.plan.trials, patience=0)
    illustrator._process = hanging()
    with pytest.raises(UserError, match=damaged):
        illustrator.close(records)
    assert illustrator._process.wait() == -signal.SIGTERM
    assert [folder.figure(trial).exists() for trial in (damaged, other)] == [False, True]


def test_a_study_that_is_stopped_leaves_its_figures_to_the_next_run(
    finished_study: Finished, tmp_path: Path
) -> None:
    folder, records = finished_study.copy(tmp_path), finished_study.records
    trial = next(r for r in records.values() if r.spec.prior is not None)
    illustrator = Illustrator(folder, finished_study.plan.trials, stopped=lambda: True)
    illustrator.ended(trial)
    illustrator._process = hanging()
    illustrator.close(records)
    assert illustrator._process.wait() == -signal.SIGTERM
    assert not folder.figure(trial.id).exists(), "the next run would take the old one for this trial's"


def test_the_last_process_answers_with_trials_that_it_cannot_draw_and_then_with_figures(
    finished_study: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished_study.copy(tmp_path)
    damaged, *_ = (r.id for r in finished_study.records.values() if r.spec.prior is not None)
    folder.posterior(damaged).write_bytes(b"half")
    figure = folder.root / "figures" / "study" / "radii.png"
    monkeypatch.setattr(at_the_end, "draw_study", lambda _: Drawn([figure], [7.0], ["one is left out"]))
    told = [[str(folder.root), []], [[damaged, "soft", ["#0072B2", "o", [0, []]]]]]
    answers = io.StringIO()
    at_the_end.main(io.StringIO("".join(f"{json.dumps(line)}\n" for line in told)), answers)
    assert [json.loads(line) for line in answers.getvalue().splitlines()] == [
        [damaged],
        [[str(figure)], [7.0], ["one is left out"]],
    ]
    stopped = io.StringIO()
    at_the_end.main(io.StringIO(f"{json.dumps(told[0])}\n"), stopped)
    assert not stopped.getvalue()


def test_what_the_last_process_does_not_draw_the_study_draws(
    finished_study: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, records = finished_study.copy(tmp_path), finished_study.records
    drawn = Drawn([], [], [])
    monkeypatch.setattr("analysis.figures.study.draw_study", lambda _: drawn)
    trial = next(r for r in records.values() if r.spec.prior is not None)
    illustrator = Illustrator(folder, finished_study.plan.trials, left=2)
    illustrator.ended(trial)
    assert illustrator._ending is not None
    illustrator._ending._process.kill()
    illustrator.close(records)
    assert illustrator._ending is None
    assert folder.figure(trial.id).exists()
    assert illustrator.figures() is drawn


def test_a_study_waits_for_its_last_process_only_so_long(finished_study: Finished) -> None:
    ending = Ending(finished_study.folder)
    assert ending.trials([], seconds=0) is None
    ending.stop()
