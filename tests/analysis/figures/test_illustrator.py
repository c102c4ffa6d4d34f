"""Trials of a running study are drawn beside it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.figures.illustrator import Illustrator
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
