"""What trials leave for each example and on running text, as findings take it from a study's folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from analysis.findings import forgetting, quality
from analysis.findings.judging import judge
from analysis.findings.probed import probed
from analysis.findings.reading import read_studies
from analysis.findings.rows import forgetting as forgotten
from analysis.findings.rows import per_example
from analysis.findings.study import Study, runs_of
from analysis.inference.intervals import over_seeds_and_groups
from analysis.inference.values import PerExample
from softprior.inputs.entries import Entry
from softprior.results.digested import read_header
from softprior.results.examples import ExampleRow, load_examples, rows_of, save_examples, schema
from softprior.results.folder import GONE
from softprior.results.probed import Probed, Removal
from softprior.results.records import Record, Score, TaskScore, load_record, save_record
from softprior.tasks import TASKS
from tests.builders import Finished, with_seeds

TEXT = Entry(name="language", params={"length": 24})

CLOZE = TASKS.entry(TASKS["cloze"](data="texts.txt", length=24))
"""Which records write as `language` in another mode, and whose loss is of answers."""

WITHOUT = 3.0
"""Loss on running text without a prompt."""


OLD = TEXT.model_copy(update={"params": {**TEXT.params, "length": 77}})


def on_text(record: Record, loss: float, fingerprint: str = "text") -> Record:
    """The record, measured on running text and on two tasks that are none."""
    score = Score(step=6, loss=loss, accuracy=None, examples=4, tokens=40)
    other = Entry(name="arithmetic", params={"modules": ["add_or_sub"]})
    elsewhere = score.model_copy(update={"loss": 9.0 if record.spec.prior is None else loss})
    also = (
        TaskScore(task=other, fingerprint="sums", score=elsewhere, sources="s"),
        TaskScore(task=TEXT, fingerprint=fingerprint, score=score, sources="s"),
        TaskScore(task=CLOZE, fingerprint="cloze", score=elsewhere, sources="s"),
    )
    evaluation = record.spec.evaluation.model_copy(update={"also": (other, TEXT, CLOZE)})
    return record.model_copy(
        update={"also": also, "spec": record.spec.model_copy(update={"evaluation": evaluation})}
    )


def table_of(rows: list[ExampleRow]) -> pa.Table:
    """As a trial's file has them."""
    return pa.Table.from_pylist([{"task": "t", **row._asdict()} for row in rows], schema=schema(()))


def test_each_file_is_read_once_and_a_lost_one_is_named(finished_study: Finished, tmp_path: Path) -> None:
    folder = finished_study.copy(tmp_path)
    reading = read_studies([folder.root])
    first, second = reading.study.runs
    known = reading.study.examples[first.id]
    folder.examples(first.id).unlink()
    folder.examples(second.id).unlink()
    assert reading.study.examples[first.id] is known, "it has been read already"
    assert reading.rows[first.id][first.record.spec.task.canonical()] is known
    assert second.id not in reading.study.examples
    assert reading.lost == [f"there is no file {folder.examples(second.id)} of examples; {GONE}"]


def test_the_rows_of_a_study_have_the_means_of_its_records(finished_study: Finished) -> None:
    study = read_studies([str(finished_study.folder.root)]).study
    assert len(study.runs) == 2
    for run in study.runs:
        found = study.examples[run.id]
        assert found.means() == pytest.approx([run.loss])
        assert found.values.shape == (1, 10)
        assert list(found.examples) == sorted(found.examples)
        assert found.seeds == (0,)
    assert not study.texts
    assert study.numbers == {}


def test_forgetting_is_the_loss_on_running_text_with_the_prompt_less_the_loss_without(
    finished_study: Finished,
) -> None:
    losses = {"none": WITHOUT, "isotropic": 3.25, "fitted": 3.75}
    records = [
        on_text(r, losses[r.spec.prior.name if r.spec.prior else "none"])
        for r in finished_study.records.values()
    ]
    runs, baselines = runs_of(records)
    found = forgotten(runs, baselines)["forgetting"]
    assert {run.axes["prior"]: found[run.id] for run in runs} == pytest.approx(
        {"isotropic": 0.25, "fitted": 0.75}
    )
    assert forgotten(runs, {}) == {}, "without the baseline nothing is known"
    changed = [replace(runs[0], record=on_text(runs[0].record, 3.5, "another text")), runs[1]]
    assert forgotten(changed, baselines)["forgetting"].keys() == {runs[1].id}
    dropped = {
        task: baseline.model_copy(
            update={"also": (*baseline.also, baseline.also[1].model_copy(update={"task": OLD}))}
        )
        for task, baseline in baselines.items()
    }
    assert forgotten(runs, dropped)["forgetting"] == found, "a text that the study no longer names is none"


def test_claims_take_the_numbers_of_probes(finished_study: Finished) -> None:
    runs, _ = runs_of(finished_study.records.values())
    assert probed(runs) == {}
    removal = Removal(
        removed=1, loss=1, near=2, far=4, random=3, random_draws=(3,), near_untrained=5, far_untrained=6
    )
    one = Probed(probe="removal", found=removal, examples=10, sources="s")
    skipped = Probed(probe="projection", skipped="no vectors", sources="s")
    first = replace(runs[0], record=runs[0].record.model_copy(update={"probes": (one, skipped)}))
    trial = first.id
    assert probed([first, runs[1]]) == {
        "without_near": {trial: 2},
        "without_far": {trial: 4},
        "without_random": {trial: 3},
    }


def test_intervals_for_other_examples_are_those_of_paired_rows(
    finished_study: Finished, tmp_path: Path
) -> None:
    """Three seeds; rows on the task and on running text are written as trials write them."""
    folder = with_seeds(finished_study, tmp_path, 3)
    source = next(record for record in finished_study.records.values() if record.spec.prior is not None)
    rows = rows_of(load_examples(finished_study.folder.examples(source.id), source.id, 10))
    (own,) = rows.values()
    generator = np.random.default_rng(0)
    for path in folder.records.glob("*.json"):
        record = on_text(load_record(path), WITHOUT)
        if record.spec.prior is None:
            save_record(path, record)
            continue
        drawn = [row._replace(nll=2.0 * row.tokens + generator.normal()) for row in own if row.tokens]
        text = [
            ExampleRow(f"t{i}", f"d{i // 2}", 10, 30 + generator.normal(), 1, 10, None, None, None, {})
            for i in range(4)
        ]
        loss = sum(row.nll or 0 for row in text) / 40
        test = record.test.model_copy(update={"loss": sum(r.nll for r in drawn) / sum(r.tokens for r in own)})  # type: ignore[union-attr, misc]
        save_record(path, on_text(record, loss).model_copy(update={"test": test, "examples": 14}))
        entries = {record.spec.task.canonical(): drawn, TEXT.canonical(): text}
        save_examples(folder.examples(record.id), record.id, entries)
    header = read_header(folder.study)
    del header["entries"]  # which name no other task; records then say which tasks they were measured on
    folder.study.write_text(json.dumps(header), encoding="utf-8")
    study = read_studies([str(folder.root)]).study
    for judged, table in ((quality.JUDGED, study.examples), (forgetting.JUDGED, study.texts)):
        (found,) = judge(study, (judged,))
        assert found.primary is not None
        (cell,) = study.cells("prior")
        a, b = ([table[side.runs[seed].id] for seed in range(3)] for side in cell.sides.values())
        values = np.concatenate([y.values - x.values for x, y in zip(a, b, strict=True)])
        by_hand = PerExample(values, a[0].weights, a[0].groups, (0, 1, 2))
        assert found.primary.value == pytest.approx(by_hand.means().mean())
        if len(set(a[0].groups)) > 1:
            assert found.primary.wider == over_seeds_and_groups(by_hand)
            assert "for other examples too" in found.sentence
        else:
            assert found.primary.wider is None, "examples of one module are one group"
    # A trial whose rows are lost keeps its record's numbers, without that interval.
    folder.examples(study.runs[0].id).unlink()
    (lost,) = judge(read_studies([str(folder.root)]).study, (forgetting.JUDGED,))
    assert lost.primary is not None
    assert lost.primary.wider is None
    assert lost.primary.value == found.primary.value


def test_only_the_same_examples_are_paired(finished_study: Finished) -> None:
    runs, baselines = runs_of(finished_study.records.values())
    tables = []
    for last in ("e2", "e3"):
        rows = [ExampleRow(e, "g", 2, 1.0, 1, 2, None, None, None, {}) for e in ("e1", last)]
        tables.append(per_example(table_of(rows), 0))
    known = {run.id: table for run, table in zip(runs, tables, strict=True) if table is not None}
    (cell,) = Study(runs, baselines, examples=known).cells("prior")
    assert cell.by_example("fitted", "isotropic", known) is None
    assert cell.by_example("fitted", "isotropic", dict.fromkeys(known, tables[0])) is not None  # type: ignore[arg-type]
    assert cell.by_example("fitted", "isotropic", {}) is None


def test_examples_without_a_measured_loss_are_left_out() -> None:
    bare = ExampleRow("e1", "g", None, None, None, None, None, None, "an answer", {})
    assert per_example(table_of([bare]), 0) is None
    found = per_example(table_of([bare._replace(example="e0", tokens=2, nll=3.0), bare]), 0)
    assert found is not None
    assert found.examples == ("e0",)
