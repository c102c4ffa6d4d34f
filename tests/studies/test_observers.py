"""Observers of a run are all closed, in order, whatever happens, and with the records that the run left."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from softprior.results.folder import StudyFolder
from softprior.results.records import Record, save_record
from softprior.studies.observers import Work, listening
from softprior.training.events import Observer
from tests.builders import Finished


class Notes(Observer):
    """Writes down what it is closed with."""

    def __init__(self, name: str, heard: list[Any], fails: bool = False) -> None:
        self.name, self.heard, self.fails = name, heard, fails

    def close(self, records: Mapping[str, Record] | None, metrics: Mapping[str, float] | None = None) -> None:
        self.heard.append((self.name, records, metrics))
        if self.fails:
            raise OSError("the disk is full")


@pytest.fixture
def work(finished_study: Finished) -> Work:
    """One trial is kept, two are missing."""
    trials = finished_study.plan.trials
    return Work(trials, {trials[0].id: finished_study.records[trials[0].id]}, (), len(trials))


def test_all_are_closed_in_order_with_kept_and_new_records(
    finished_study: Finished, work: Work, tmp_path
) -> None:
    folder, heard = StudyFolder(tmp_path), []
    new = work.missing[0].id
    observers = [Notes("a", heard, fails=True), Notes("b", heard)]

    def broken_off() -> None:
        with listening(lambda _: observers, work, folder, threading.Event()) as run:
            save_record(folder.record(new), finished_study.records[new])
            run.metrics = {"lowest": 1.0}
            raise RuntimeError("the run broke off")

    with pytest.raises(OSError, match="the disk is full"):
        broken_off()
    assert [name for name, _, _ in heard] == ["a", "b"]
    for _, records, metrics in heard:
        assert records == {i: finished_study.records[i] for i in (work.trials[0].id, new)}
        assert metrics == {"lowest": 1.0}


@pytest.mark.parametrize("damaged", [True, False])
def test_records_that_cannot_be_read_or_are_anothers_close_observers_too(
    finished_study: Finished, work: Work, tmp_path, damaged: bool
) -> None:
    folder, heard, lost = StudyFolder(tmp_path), [], threading.Event()
    with listening(lambda _: [Notes("a", heard)], work, folder, lost):
        if damaged:
            folder.records.mkdir()
            folder.record(work.missing[0].id).write_text("no JSON")
        else:
            lost.set()
    ((_, records, _),) = heard
    assert records == (work.kept if damaged else None)
