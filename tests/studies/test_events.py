"""What the driver says and records of trials whose processes were lost, or could not leave a record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from softprior.inputs.entries import Entry
from softprior.inputs.specs import TrialSpec
from softprior.results.folder import StudyFolder
from softprior.results.records import Record, Score, StepPoint, TaskScore, load_record, save_record
from softprior.studies.reporting import EVENTS
from softprior.studies.tune_events import Events
from softprior.tasks import TASKS
from softprior.training.also import fingerprint
from softprior.training.events import Event, Failed, Notice, Phase, Step
from softprior.training.extension import lacking
from tests.builders import SUMS, trial

RAISED = "Failure # 1 (occurred at noon)\nTraceback (most recent call last):\n  File ...\nOSError: no\n"
STARVED = "Failure # 1 (occurred at noon)\n1 worker(s) were killed due to the node running low on memory.\n"


class Heard:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.records: list[Record] = []

    def progress(self, _: TrialSpec, events: Sequence[Event]) -> None:
        self.told += events

    def ended(self, record: Record) -> None:
        self.records.append(record)


class Attempts:
    """A trial as Tune has it, and the three attempts at it."""

    def __init__(self, root: Path) -> None:
        self.folder, self.heard, self.spec = StudyFolder(root), Heard(), trial()
        self.events = Events(self.folder, [self.heard], 2, 5)
        self.errors = root / "error.txt"
        self.errors.write_text("")
        self._trial = SimpleNamespace(config={"trial": self.spec.canonical()}, error_file=str(self.errors))

    def measure(self, other: Entry) -> None:
        """The trial is to be measured on another task too."""
        evaluation = self.spec.evaluation.model_copy(update={"also": (other,)})
        self.spec = self.spec.model_copy(update={"evaluation": evaluation})
        self._trial.config["trial"] = self.spec.canonical()

    def tell(self, event: str, **more: Any) -> None:
        getattr(self.events, f"on_trial_{event}")(iteration=1, trials=[], trial=self._trial, **more)

    def report(self, event: Event) -> None:
        self.tell("result", result={EVENTS: [event]})

    def hang(self, line: str) -> None:
        path = self.folder.stalls(self.spec.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{line}\nThread 1\n")

    def reason(self) -> str:
        self.tell("error")
        assert self.heard.records[-1] == load_record(self.folder.record(self.spec.id))
        assert self.heard.records[-1].status == "failed"
        return str(self.heard.records[-1].error)


@pytest.fixture
def attempts(tmp_path: Path) -> Attempts:
    found = Attempts(tmp_path)
    found.hang("no sign of life for 5 minutes: step 1")  # of an earlier run of the study
    found.tell("start")
    return found


def test_deaths_and_hangs_are_told_apart_and_counted(attempts: Attempts) -> None:
    attempts.report(Step(StepPoint(step=7, loss=1.0, rate=0.1, gradient=1.0, moved=0.1), 30))
    attempts.tell("recover")
    attempts.tell("start")
    attempts.hang("no sign of life for 5 minutes: step 12")
    attempts.tell("recover")
    again = "started again from its last checkpoint"
    assert [event.text for event in attempts.heard.told if isinstance(event, Notice)] == [
        f"its process died (step 7); {again} (attempt 2 of 3)",
        f"no sign of life for 5 minutes (step 12); {again} (attempt 3 of 3)",
    ]
    attempts.report(Phase(20, "test"))
    attempts.hang("Timeout (0:05:10)!")
    said = "its process died (step 7), once and no sign of life for 5 minutes (step 20, test), twice; see "
    assert attempts.reason() == f"{said}{attempts.folder.stalls(attempts.spec.id)}"


def test_deaths_alone_point_to_memory(attempts: Attempts) -> None:
    attempts.tell("recover")
    attempts.tell("recover")
    said = "its process died (step 0), 3 times, perhaps for lack of memory; lower resources.concurrent or "
    assert attempts.reason() == f"{said}training.batch"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RAISED, "OSError: no (step 0), once; see "),
        (STARVED, "Ray ended its process because the node was low on memory (step 0), once; lower "),
    ],
)
def test_what_ray_says_is_passed_on(attempts: Attempts, error: str, said: str) -> None:
    attempts.errors.write_text(error)
    assert attempts.reason().startswith(said)


def test_a_trial_that_cannot_write_its_record_tells_the_driver(attempts: Attempts) -> None:
    attempts.report(Failed(0, "step 3: the disk is full"))
    assert attempts.reason() == "step 3: the disk is full"


def test_a_record_that_nobody_can_write_is_told_and_remembered(attempts: Attempts) -> None:
    attempts.folder.records.write_text("")  # in the way of the folder
    attempts.tell("error")
    (record,) = attempts.heard.records
    reason = str(record.error)
    assert reason.startswith("its process died (step 0), once, perhaps for lack of memory; lower")
    assert "its record cannot be written ([Errno 17]" in reason
    said = f"{attempts.folder.records} cannot be written (File exists); finished trials and checkpoints are "
    assert str(attempts.events.unwritten).startswith(said)


class Finished(NamedTuple):
    """Attempts at measuring a finished trial on another task, and the task."""

    attempts: Attempts
    record: Record
    other: Entry


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    attempts = Attempts(tmp_path)
    record = Record(id=attempts.spec.id, label="any", spec=attempts.spec, status="finished")
    save_record(attempts.folder.record(record.id), record)
    other = TASKS.entry(TASKS["arithmetic"].model_validate(SUMS | {"modules": ["mul"]}))
    attempts.measure(other)
    return Finished(attempts, record, other)


def test_a_process_that_dies_as_it_measures_another_task_leaves_the_reason(finished: Finished) -> None:
    """The trial's own numbers stay; the reason is counted, so that the status of the study is not 0."""
    attempts, record, other = finished
    attempts.report(Phase(6, "test on arithmetic"))
    attempts.tell("error")
    found = load_record(attempts.folder.record(record.id))
    assert attempts.heard.records == [found]
    assert found.model_copy(update={"also": (), "spec": record.spec}) == record
    (lost,) = lacking(found)
    assert lost.wanted == other
    assert lost.reason.startswith("its process died (step 6, test on arithmetic), once, perhaps for lack")


@pytest.mark.parametrize("event", ["complete", "error"])
def test_a_score_is_not_lost_with_its_process(finished: Finished, event: str) -> None:
    attempts, record, other = finished
    score = Score(step=6, loss=1.0, accuracy=None, examples=1, tokens=1)
    scored = TaskScore(task=other, fingerprint=fingerprint(other), score=score, sources="s")
    save_record(attempts.folder.record(record.id), record.model_copy(update={"also": (scored,)}))
    attempts.tell(event)
    assert attempts.heard.records[0].also == (scored,)


def test_a_reason_that_could_not_be_written_reaches_the_record(finished: Finished) -> None:
    attempts, record, _ = finished
    attempts.report(Failed(0, "step 6: the disk is full"))
    attempts.tell("complete")
    assert load_record(attempts.folder.record(record.id)).also[0].error == "step 6: the disk is full"


def test_what_nobody_measured_is_counted(finished: Finished) -> None:
    attempts, record, _ = finished
    attempts.tell("complete")
    (lost,) = lacking(load_record(attempts.folder.record(record.id)))
    assert lost.reason.startswith("it left no record here")
    attempts.tell("complete")
    assert len(attempts.heard.records[1].also) == 1
