"""What killed processes leave goes once the study's command has ended, and nothing else does."""

import os
from pathlib import Path

import pytest

from softprior.results.leftovers import remove_leftovers
from softprior.results.provenance import SOURCES
from softprior.results.records import load_records, save_record
from softprior.studies.grid import Grid
from softprior.studies.runner import forget_failures


def test_a_study_that_ends_leaves_no_half_written_file_and_no_old_checkpoint(tmp_path, finished_study):
    folder, records = finished_study.copy(tmp_path), finished_study.records
    trial, other = list(records)[-2:]
    posterior = folder.posterior(trial)
    old, fresh, not_ours = (
        posterior.with_name(name)
        for name in (
            f".{posterior.name}.{'0' * 32}.part",
            f".{posterior.name}.{'f' * 32}.part",
            ".notes.part",
        )
    )
    for path in (old, fresh, not_ours):
        path.write_text("half")
    for path in (old, not_ours):
        os.utime(path, (1e9, 1e9))
    kept = folder.kept(trial, 6)
    kept.parent.mkdir(parents=True)
    for path in (folder.checkpoint(trial), folder.checkpoint(other), kept):
        path.write_text("a checkpoint")
    losses, foreign = folder.untrained(f"{SOURCES[:8]}-0"), folder.untrained("00000000-0")
    for path in (losses, foreign):
        path.parent.mkdir(exist_ok=True)
        path.write_text("losses of a start")
    before = {path for path in folder.root.rglob("*") if path.is_file()}

    remove_leftovers(folder, records | {other: records[other].model_copy(update={"status": "failed"})})
    gone = {old, foreign, folder.checkpoint(trial)}
    assert before - set(folder.root.rglob("*")) == gone
    Grid(*finished_study.plan).run(folder)
    assert before - set(folder.root.rglob("*")) == gone | {folder.checkpoint(other)}


@pytest.mark.parametrize(("method", "error"), [("unlink", PermissionError), ("rglob", FileNotFoundError)])
def test_a_study_has_ended_whether_or_not_leftovers_can_be_removed(
    tmp_path, finished_study, monkeypatch, method, error
):
    """A folder shared with other users, and one that vanishes while it is looked through."""
    folder, records = finished_study.copy(tmp_path), finished_study.records
    (trial, *_) = records
    folder.checkpoint(trial).parent.mkdir(exist_ok=True)
    left = folder.posterior(trial).with_name(f".x.{'0' * 32}.part")
    for path in (folder.checkpoint(trial), left):
        path.write_text("half")
        os.utime(path, (1e9, 1e9))

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(Path, method, refuse)
    remove_leftovers(folder, records)
    assert left.exists()


def test_only_records_of_failures_are_removed_before_trials_run(tmp_path, finished_study):
    """A trial may end in a process of a killed driver after the next driver has planned it."""
    folder, records = finished_study.copy(tmp_path), finished_study.records
    first, failed, missing = records
    save_record(folder.record(failed), records[failed].model_copy(update={"status": "failed"}))
    folder.record(missing).unlink()
    forget_failures(finished_study.plan.trials, folder)
    assert list(load_records(folder.records)) == [first]
