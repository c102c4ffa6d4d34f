"""Studies that measure other tasks: what is planned, what is still to do, and the columns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from softprior.errors import UserError
from softprior.inputs.specs import TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.library.results import Results
from softprior.results.records import Record, Score, TaskScore, save_record
from softprior.studies.describe import closing_notes, extending
from softprior.studies.estimate import total_cost
from softprior.studies.grid import Grid
from softprior.studies.plan import Plan, plan_study
from softprior.studies.table import write_study, write_table
from softprior.tracking.contents import once
from softprior.training.also import current
from softprior.training.extension import Extension
from tests.builders import SUMS, Finished, study_file

OTHERS = [{"arithmetic": SUMS | {"modules": [module]}} for module in ("mul", "add_or_sub")]


def planned(path: Path, **evaluation: Any) -> Plan:
    given = {"examples": 10, "generate": 4, **evaluation}
    return plan_study(load_grid(study_file(path / "small.yaml", evaluation=given)), "small.yaml")


def scored(record: Record, plan: Plan, **losses: float) -> Record:
    """The record with scores on other tasks, as if they had been measured."""
    known = current(plan.trials)
    tasks = {entry.params["modules"][0]: entry for entry in plan.trials[0].evaluation.also}  # type: ignore[index]
    also = [
        TaskScore(
            task=tasks[name],
            fingerprint=known[tasks[name].canonical()],
            score=Score(
                step=6, loss=loss, accuracy=0.5, metrics={"exact_match": 0.25}, examples=10, tokens=30
            ),
            sources="s",
        )
        for name, loss in losses.items()
    ]
    return record.model_copy(update={"also": tuple(also)})


def finished(trial: TrialSpec) -> Record:
    return Record(id=trial.id, label="", spec=trial, status="finished")


def test_trials_keep_their_ids_and_the_plan_counts_the_work(tmp_path: Path) -> None:
    plain, more = planned(tmp_path), planned(tmp_path, also=OTHERS)
    assert [trial.id for trial in more.trials] == [trial.id for trial in plain.trials]
    one, other = (total_cost(plan.trials, replace(plan.components, lengths={})) for plan in (plain, more))
    assert other.trained == one.trained
    # Per trial and task 10 losses and 10 controls of 28 tokens, and 4 answers of 28 and half of 5 new tokens.
    assert other.evaluated - one.evaluated == 3 * 2 * (10 * 28 + 10 * 28 + 4 * (28 + 2))
    assert (
        "3 finished trials measured on arithmetic(modules=[mul]), arithmetic(modules=[add_or_sub]) too"
        in extending((Extension(finished(trial), trial) for trial in more.trials), more.components)
    )


@pytest.mark.parametrize(
    ("also", "said"),
    [
        (["squadd"], "evaluation.also[0] = 'squadd' does not exist; did you mean 'squad'"),
        ([{"language": {"lenght": 3}}], "did you mean 'evaluation.also[0].language.length'"),
        ([{"language": {"data": "./nowhere.txt"}}], "small.yaml: evaluation.also[0]: "),
        (
            [{"language": {"data": "~no-such-user/a.txt"}}],
            "evaluation.also[0]: there is no home folder for '~no",
        ),
        ([{"language": {}, "label": "a"}], "'language': {}}: cannot have a label, unlike"),
        ([{"language": {"length": 4000}}], "but the model has 1,024"),
    ],
)
def test_a_wrong_task_gets_one_sentence(tmp_path: Path, also: list[Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        planned(tmp_path, also=also)
    assert said in str(error.value)


def test_notes_on_another_task_are_of_its_test_split_under_a_short_name(tmp_path: Path) -> None:
    rows = [{"q": f"{i}?", "a": str(i % 3)} for i in range(60)]
    data = tmp_path / "a.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    own = {"input": "q", "answer": "a", "length": 64, "data": {"train": str(data), "test": str(data)}}
    also = [{"pairs": {**own, "metric": metric}} for metric in ("number", "f1")]
    notes = [
        note for note in planned(tmp_path, also=also).notes if note.startswith("pairs") and "95%" not in note
    ]
    # 60 rows to train on are left out, as the test split has their input.
    assert notes == [
        f"pairs(metric={metric}) has 30 test examples (limit 256)" for metric in ("number", "f1")
    ]


def test_the_own_task_as_another_one_gets_a_note(tmp_path: Path) -> None:
    own = planned(tmp_path).study.model_dump(mode="json")["tasks"]
    told = "evaluation.also[0] is the task of every trial, which is tested on it anyway; remove it"
    assert told in planned(tmp_path, also=own).notes


def test_a_task_named_twice_gets_a_note(tmp_path: Path) -> None:
    notes = planned(tmp_path, also=[OTHERS[0], OTHERS[0]]).notes
    assert "evaluation.also[1] is the same as evaluation.also[0] and counts once; remove it" in notes


def test_finished_trials_are_extended_and_nothing_else_runs(tmp_path: Path, finished_study: Finished) -> None:
    folder = finished_study.copy(tmp_path)
    plan = planned(tmp_path, also=OTHERS)
    ids = tuple(trial.id for trial in plan.trials)
    work = Grid(*plan).look(folder, again=False)
    assert (set(work.extended), work.new, work.missing) == (set(ids), (), plan.trials)
    first, second, third = (finished_study.records[i] for i in ids)
    save_record(folder.record(first.id), scored(first, plan, mul=1.0, add_or_sub=2.0))
    save_record(folder.record(second.id), scored(second, plan, mul=1.0))
    folder.record(third.id).unlink()
    work = Grid(*plan).look(folder, again=False)
    assert set(work.extended) == {second.id}
    assert [len(one.due.evaluation.also) for one in work.extended.values()] == [1], "of two"
    assert set(work.kept) == {first.id}
    assert [trial.id for trial in work.new] == [third.id]
    assert extending(work.extended.values(), plan.components) == (
        "1 finished trial measured on arithmetic(modules=[add_or_sub]) too, from the saved posteriors: "
        "at most 680 positions"
    ), "what it has already is neither named nor counted"
    assert not Grid(*planned(tmp_path)).look(folder, again=False).extended


def test_columns_have_every_other_task_and_its_baseline(tmp_path: Path, finished_study: Finished) -> None:
    """The trials' own task is one of them here; its columns are those of the test split, measured once."""
    folder = finished_study.copy(tmp_path)
    plan = planned(tmp_path, also=[OTHERS[0], {"arithmetic": SUMS}])
    ids = [trial.id for trial in plan.trials]
    losses = dict(zip(ids, (4.0, 5.0, None), strict=True))
    records = {
        i: scored(record, plan, **({} if losses[i] is None else {"mul": losses[i]}))
        for i, record in finished_study.records.items()
    }
    write_table(folder, plan.trials, plan.components, records)
    table = pq.read_table(folder.table).to_pylist()
    for row in table:
        assert row["also/arithmetic(modules=[mul])/loss"] == losses[row["trial"]]
        assert row["also/arithmetic(modules=[mul])/baseline_loss"] == 4.0
        assert row["also/arithmetic(modules=[two_digit_addition])/loss"] == row["test_loss"]
        assert row["also/arithmetic(modules=[two_digit_addition])/baseline_loss"] == row["baseline_loss"]
        exact = row["also/arithmetic(modules=[mul])/exact_match"]
        assert exact == (None if losses[row["trial"]] is None else 0.25)
    assert dict(once(records[ids[1]]))["also_arithmetic_modules_mul_loss"] == 5.0, "MLflow has it too"


def test_rows_of_several_tasks_are_told_apart_by_name(tmp_path: Path, finished_study: Finished) -> None:
    """A record that was measured on two kinds of sums, read as one table."""
    from softprior.results.examples import load_examples, rows_of, save_examples

    folder = finished_study.copy(tmp_path)
    plan = planned(tmp_path, also=OTHERS[:1])
    trial = plan.trials[0]
    record = scored(finished_study.records[trial.id], plan, mul=1.0)
    rows = rows_of(load_examples(folder.examples(trial.id), trial.id, 10))
    (own,) = rows.values()
    rows[record.also[0].task.canonical()] = own[:3]
    save_examples(folder.examples(trial.id), trial.id, rows)
    save_record(folder.record(trial.id), record.model_copy(update={"examples": 13}))
    write_study(folder, plan.spec, plan.trials)
    found = Results(folder.root).examples
    assert found[found.trial == trial.id].groupby("task").size().to_dict() == {
        "arithmetic(modules=[mul])": 3,
        "arithmetic(modules=[two_digit_addition])": 10,
    }


def unmeasured(records: list[Record]) -> list[str]:
    return [note for note in closing_notes(records) if " not measured on " in note]


def test_what_was_not_measured_is_told_once_per_task(finished_study: Finished, tmp_path: Path) -> None:
    plan = planned(tmp_path, also=OTHERS[:1])
    entry = plan.trials[0].evaluation.also[0]
    lost = TaskScore(task=entry, fingerprint="", error="there is no file", sources="s")
    records = [
        record.model_copy(update={"also": (lost,), "spec": spec})
        for record, spec in zip(finished_study.records.values(), plan.trials, strict=True)
    ]
    assert unmeasured(records) == [
        "3 trials not measured on arithmetic, the first arithmetic · none: there is no file"
    ]
    assert unmeasured([record.model_copy(update={"also": ()}) for record in records]) == [
        "3 trials not measured on arithmetic, the first arithmetic · none: its record does not say why"
    ]
    without = [
        record.model_copy(update={"spec": spec})
        for record, spec in zip(records, planned(tmp_path).trials, strict=True)
    ]
    assert unmeasured(without) == [], "the study no longer asks for it"
