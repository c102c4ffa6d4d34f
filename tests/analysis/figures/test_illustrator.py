"""Trials of a running study are drawn beside it."""

from __future__ import annotations

from pathlib import Path

from analysis.figures.illustrator import Illustrator
from tests.builders import Finished


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
