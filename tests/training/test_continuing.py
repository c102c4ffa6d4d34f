"""Trials that go on: as if they had not been stopped, from what was kept, and with honest schedules alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from softprior.errors import UserError
from softprior.inputs.specs import TrainingSpec
from softprior.inputs.validation import validate
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.records import Continued, load_record
from softprior.training import continuing
from softprior.training.continuing import kept_checkpoint
from softprior.training.events import Event, Notice, Step
from tests.builders import run, trial


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a trial of three steps, with warm-up, whose last checkpoint was kept."""
    root = tmp_path_factory.mktemp("finished")
    run(trial(steps=3, warmup=2, keep_checkpoint=True), root)
    return root


def test_a_trial_that_goes_on_equals_one_that_was_not_stopped(finished: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    short, long = trial(steps=3, warmup=2), trial(steps=5, warmup=2)
    on = run(long, finished, events.append)
    whole = run(long, tmp_path)
    assert on.continued == Continued(trial=short.id, step=3)
    assert Notice(3, "goes on from step 3 of an earlier trial", again=True) in events
    assert on.id == whole.id != short.id
    assert (on.steps, on.test, on.untrained) == (whole.steps, whole.test, whole.untrained)
    assert on.geometry == whole.geometry
    found, wanted = (load_posterior(StudyFolder(root).posterior(long.id)) for root in (finished, tmp_path))
    for place, vectors in wanted.final.items():
        assert torch.equal(found.final[place], vectors)
        assert torch.equal(found.initial[place], wanted.initial[place])
    assert all(point in on.validation for point in whole.validation if point.step > 3)
    assert [(e.step, e.resumed) for e in events if isinstance(e, Step)] == [
        (1, True),
        (2, True),
        (3, True),
        (4, False),
        (5, False),
    ]


def test_the_record_says_where_it_went_on_from(finished: Path) -> None:
    long = trial(steps=4, warmup=2)
    run(long, finished)
    path = StudyFolder(finished).record(long.id)
    assert '"from": "' + trial(steps=3, warmup=2).id in path.read_text(encoding="utf-8")
    assert load_record(path).continued is not None


def test_keeping_a_checkpoint_changes_no_id(finished: Path) -> None:
    assert trial(steps=3, warmup=2, keep_checkpoint=True).id == trial(steps=3, warmup=2).id
    assert "keep_checkpoint" not in TrainingSpec(steps=1, batch=1).model_dump()
    assert kept_checkpoint(StudyFolder(finished), trial(steps=3, warmup=2)).exists()


def test_what_a_trial_would_go_on_from_is_found_without_its_tensors(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuing, "load_checkpoint", None)
    folder, short = StudyFolder(finished), trial(steps=3, warmup=2)
    found = continuing.longest(folder, trial(steps=4, warmup=2))
    assert found == (short.id, 3, kept_checkpoint(folder, short))


def test_what_other_code_trained_is_not_continued(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuing, "SOURCES", "other")
    events: list[Event] = []
    record = run(trial(steps=6, warmup=2), finished, events.append)
    assert record.continued is None
    assert any("was trained by other code" in event.text for event in events if isinstance(event, Notice))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_that_depends_on_the_number_of_steps_keeps_nothing(schedule: str) -> None:
    data = {"steps": 3, "batch": 8, "schedule": schedule, "keep_checkpoint": True}
    with pytest.raises(UserError, match=f"with schedule: {schedule} every step's rate depends on the number"):
        validate(TrainingSpec, data, "x.yaml")
