"""What is read together as one study, what of it counts, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from analysis.findings import common
from analysis.findings.collapse import Cluster
from analysis.findings.reading import read_studies
from analysis.findings.simulated import Truth, simulated
from analysis.findings.study import Study
from jobs.compare import main as compare
from jobs.report import main as report
from softprior.errors import UserError
from softprior.results.digested import read_header
from softprior.results.folder import StudyFolder
from softprior.results.records import Record, load_record, save_record
from softprior.results.sanity import Check
from tests.builders import Finished


def trained(study: Finished) -> list[Record]:
    return [record for record in study.records.values() if record.spec.seed is not None]


def add(folder: StudyFolder, record: Record, **changes: Any) -> Record:
    """One more finished trial, with another spec."""
    spec = record.spec.model_copy(update=changes)
    own = record.model_copy(update={"id": spec.id, "spec": spec})
    save_record(folder.record(own.id), own)
    header = read_header(folder.study)
    header["trials"].append(own.id)
    folder.study.write_text(json.dumps(header), encoding="utf-8")
    return own


@pytest.mark.parametrize("axis", ["training", "pairing", "data_fingerprint", "dtype", "evaluation"])
def test_trials_that_were_trained_or_measured_in_other_ways_are_refused(
    axis: str, finished_study: Finished, tmp_path: Path
) -> None:
    folder = finished_study.copy(tmp_path)
    first = trained(finished_study)[0]
    assert first.spec.training is not None
    others = {
        "training": first.spec.training.model_copy(update={"steps": 7}),
        "evaluation": first.spec.evaluation.model_copy(update={"examples": 9}),
        "pairing": "none",
        "data_fingerprint": "other data",
        "dtype": "bfloat16",
    }
    add(folder, first, seed=1, **{axis: others[axis]})
    with pytest.raises(UserError, match="differ in training, evaluation, pairing, data or dtype, so their"):
        read_studies([str(folder.root)])


def test_two_trials_that_nothing_tells_apart_are_refused(finished_study: Finished, tmp_path: Path) -> None:
    """They differ in what was corrected since, which no axis shows."""
    folder = finished_study.copy(tmp_path)
    first = trained(finished_study)[0]
    other = add(folder, first, corrections=("joint tokens",))
    with pytest.raises(UserError) as error:
        read_studies([str(folder.root)])
    for trial in (first.id, other.id):
        assert trial[:6] in str(error.value)
    assert "they cannot be told apart; give studies that differ in what is compared" in str(error.value)


def test_a_trial_with_a_fault_is_left_out_and_counted(finished_study: Finished, tmp_path: Path) -> None:
    folder = finished_study.copy(tmp_path)
    first, second = trained(finished_study)
    fault = Check(name="posterior", number=1.0, verdict="fault")
    save_record(folder.record(first.id), first.model_copy(update={"sanity": (*first.sanity, fault)}))
    alarm = fault.model_copy(update={"verdict": "alarm"})
    save_record(folder.record(second.id), second.model_copy(update={"sanity": (alarm,)}))
    read = read_studies([str(folder.root)])
    assert [run.id for run in read.study.runs] == [second.id]
    assert "1 trial with a fault in their own checks left out; see Results.sanity" in read.notes
    assert load_record(folder.record(first.id)).status == "finished"


def test_an_average_over_rates_has_only_seeds_that_finished_at_all_of_them() -> None:
    """Of a side with other rates for some seeds, their mean would be of other rates."""
    study = simulated(Truth(rates=(0.01, 0.02), seeds=3))
    runs = [run for run in study.runs if (run.axes["rate"], run.seed) not in {("0.01", 0), ("0.02", 2)}]
    (cell,) = Study(runs, study.baselines).cells("prior")
    (whole,) = study.cells("prior")
    for name, side in cell.sides.items():
        found = side.values(common.loss, averaged=True)
        assert set(found) == {1}
        assert found[1] == whole.sides[name].values(common.loss, averaged=True)[1]
    without = replace(runs[0], record=runs[0].record.model_copy(update={"test": None}))
    (cell,) = Study([without, *runs[1:]], study.baselines).cells("prior")
    assert all(0 not in side.values(common.loss, averaged=True) for side in cell.sides.values())


def test_rows_of_zeros_have_no_direction() -> None:
    own = np.random.default_rng(0).normal(size=(200, 6))
    zeros = np.zeros((5, 6))
    tokens, held_out = np.concatenate([own[:100], zeros]), np.concatenate([own[100:190], zeros])
    found = Cluster(tokens, held_out).shares(own[190:])
    assert found["cosine"] == Cluster(own[:100], own[100:190]).shares(own[190:])["cosine"]
    assert 0 <= found["cosine"] <= 1


def test_a_report_that_cannot_be_written_is_said_in_one_sentence(
    finished_study: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    # Nothing of the page matters here, and its pictures take seconds.
    monkeypatch.setattr("analysis.report.page.gather", lambda *_: SimpleNamespace(partial=()))
    monkeypatch.setattr("analysis.report.page.render", lambda _: "page")
    folder = finished_study.copy(tmp_path)
    assert report([str(folder.root), "--output", str(file / "page.html")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: the report cannot be written (")
    assert line.endswith("name another file with --output")


def test_findings_are_printed_where_the_axis_has_one_value(
    finished_study: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_study.copy(tmp_path)
    assert compare([str(folder.root), "method", "--findings"]) == 0
    said = capsys.readouterr().out
    assert "note: where all else is equal, the finished trials have only one method (soft)" in said
    assert (
        "3. Quality is equal whatever the prior: some pair has fewer than two seeds with both sides" in said
    )
