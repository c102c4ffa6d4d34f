"""What the checks of a study's trials say at its end."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from jobs.support.endings import tell_end
from jobs.support.exits import FAILED, FINISHED
from softprior.library.results import Results
from softprior.library.sanity import COLUMNS, checks, verdicts
from softprior.results.records import Record, load_record, save_record
from softprior.results.sanity import Check
from softprior.studies.observers import Work
from tests.builders import Finished

PASSED = Check(name="labels", number=1.0, verdict="passed")
ALARM = Check(name="one_answer", number=1.0, verdict="alarm")
FAULT = Check(name="batch_mates", number=0.25, verdict="fault")


@pytest.fixture
def quiet(finished_study: Finished) -> dict[str, Record]:
    """The records of a study with one check each, which passed, and without what is compared."""
    return {
        i: record.model_copy(update={"sanity": (PASSED,), "predictions": (), "test": None})
        for i, record in finished_study.records.items()
    }


def test_one_row_per_trial_and_check(finished_study: Finished) -> None:
    results = Results(finished_study.folder.root)
    table = results.sanity
    assert tuple(table.columns) == COLUMNS
    assert table.trial.unique().tolist() == list(results.records)
    assert len(table) == sum(map(len, checks(results.records).values()))
    for i, record in finished_study.records.items():
        own = table[table.trial == i]
        assert own.label.unique().tolist() == [results.labels[i]]
        found = [(check.name, check.number, check.verdict, check.words) for check in record.sanity]
        assert list(own[["check", "number", "verdict", "words"]].itertuples(index=False, name=None))[
            : len(found)
        ] == [(*rest, words) for *rest, words in found]
    trained = {t.id for t in finished_study.plan.trials if t.training is not None}
    assert set(table[table.check == "no_prompt_answers"].trial) == trained


def test_a_prompt_is_compared_with_none(finished_study: Finished) -> None:
    """Counted by hand: answers that are the same, and what is left of the gap of swapped contexts."""
    (alone,) = (r for r in finished_study.records.values() if r.spec.training is None)
    trained = next(r for r in finished_study.records.values() if r.spec.training is not None)
    assert alone.test is not None
    assert trained.test is not None
    given = [found.model_copy(update={"answer": str(i)}) for i, found in enumerate(alone.predictions)]
    assert len(given) == 4
    same = [*given[:3], given[3].model_copy(update={"answer": "another"})]

    def with_gap(record: Record, gap: float) -> Record:
        score = record.test
        assert score is not None
        return record.model_copy(
            update={"test": score.model_copy(update={"loss": 2.0, "shuffled_loss": 2.0 + gap})}
        )

    alone = with_gap(alone, 0.16).model_copy(update={"predictions": tuple(given)})
    trained = with_gap(trained, 0.04).model_copy(update={"predictions": tuple(same)})
    found = {check.name: check for check in checks({"a": alone, "b": trained})["b"]}
    assert found["no_prompt_answers"] == Check(name="no_prompt_answers", number=0.75, verdict="passed")
    assert found["kept_context"].number == pytest.approx(0.25)
    assert found["kept_context"].verdict == "alarm"
    words = "swapped contexts cost only 25% of what they cost the model without a prompt"
    assert found["kept_context"].words == words
    all_same = trained.model_copy(update={"predictions": tuple(given)})
    again = {check.name: check for check in checks({"a": alone, "b": all_same})["b"]}
    assert again["no_prompt_answers"].words == "100% of the answers are those of the model without a prompt"
    assert {check.name for check in checks({"b": trained})["b"]} == {c.name for c in trained.sanity}


def test_the_end_of_a_study_counts_trials_and_names_what_failed(quiet: dict[str, Record]) -> None:
    labels = {i: f"trial {n}" for n, i in enumerate(quiet)}
    assert verdicts(quiet, labels) == (["sanity: 3 of 3 trials passed"], False)
    three, one, two = sorted(quiet, key=lambda i: quiet[i].spec.training is not None)
    first = next(i for i in quiet if i != three)
    bad = {i: quiet[i].model_copy(update={"sanity": (PASSED, ALARM)}) for i in quiet if i in (one, two)}
    alarmed = f"alarm: {labels[first]}: 100% of the answers are the same one; the same of 1 other trial"
    other = next(i for i in quiet if i not in (first, three))
    alarmed += f" ({other[:6]})"
    assert verdicts(quiet | bad, labels) == (["sanity: 1 of 3 trials passed", alarmed], False)
    less = ALARM.model_copy(update={"number": 0.97})
    unlike = bad | {i: quiet[i].model_copy(update={"sanity": (PASSED, less)}) for i in bad if i != first}
    said = verdicts(quiet | unlike, labels).lines[1]
    assert said.endswith(
        ": 100% of the answers are the same one; the same alarm for 1 other trial, with other numbers "
        f"({other[:6]})"
    )
    worse = {three: quiet[three].model_copy(update={"sanity": (FAULT,)})}
    fault = "alone, a row's loss is 0.25 nats per label token from that among others of its batch"
    lines, faults = verdicts(quiet | bad | worse, labels)
    assert lines == ["sanity: 0 of 3 trials passed", f"fault: {labels[three]}: {fault}", alarmed]
    assert faults


def test_alarms_of_the_model_alone_are_notes(quiet: dict[str, Record]) -> None:
    """There is no prompt to blame, so no trial has failed; a fault counts wherever it is."""
    (alone,) = (i for i, record in quiet.items() if record.spec.training is None)
    deaf = Check(name="swapped_context", number=-0.02, verdict="alarm")
    records = quiet | {alone: quiet[alone].model_copy(update={"sanity": (PASSED, deaf)})}
    lines, faults = verdicts(records, dict.fromkeys(records, "no prompt"))
    assert not faults
    assert lines == [
        f"sanity: {len(records)} of {len(records)} trials passed",
        "note: no prompt: without a trained prompt the model does not use its context on this task: swapped "
        "contexts change its loss by -0.020 nats",
    ]
    records[alone] = quiet[alone].model_copy(update={"sanity": (FAULT,)})
    found = verdicts(records, dict.fromkeys(records, "no prompt"))
    assert found.faults
    assert found.lines[0] == f"sanity: {len(records) - 1} of {len(records)} trials passed"


def test_records_from_before_there_were_checks_are_counted(quiet: dict[str, Record]) -> None:
    first = next(iter(quiet))
    old = {first: quiet[first].model_copy(update={"sanity": ()})}
    line = "sanity: 2 of 2 trials passed; 1 from before there were checks"
    assert verdicts(quiet | old, dict.fromkeys(quiet, "")) == ([line], False)


def test_a_fault_is_an_exit_status(tmp_path: Path, finished_study: Finished) -> None:
    folder, plan = finished_study.copy(tmp_path), finished_study.plan
    work = Work(plan.trials, finished_study.records, (), len(plan.trials))

    def told() -> tuple[int, str]:
        console = Console(file=io.StringIO(), width=200)
        return tell_end(console, Results(folder.root), work), console.file.getvalue()

    status, text = told()
    assert status == FINISHED
    assert "of 3 trials passed" in text
    assert "fault: " not in text
    first = plan.trials[0].id
    record = load_record(folder.record(first))
    save_record(folder.record(first), record.model_copy(update={"sanity": (*record.sanity, FAULT)}))
    status, text = told()
    assert status == FAILED
    assert "fault: " in text
