"""Results of a study as tables and mappings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analysis.findings.reading import read
from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.inputs.labels import labels, short_ids
from softprior.inputs.specs import StudySpec, TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.library.results import Results, UnknownTrialError, full_id
from softprior.prompt import Place
from softprior.results.digested import read_header
from softprior.results.entries import planned_priors
from softprior.results.examples import COLUMNS, load_examples, rows_of, save_examples
from softprior.results.folder import StudyFolder
from softprior.results.records import load_record, save_record
from softprior.studies import grid
from softprior.studies.plan import plan_study
from softprior.studies.table import write_study, write_table
from softprior.training.extension import lacking
from tests.builders import SUMS, Finished, run, study_file

OLD = Path(__file__).parents[1] / "data" / "old_results"


def test_tables_say_what_the_records_say(finished_study: Finished) -> None:
    results = Results(str(finished_study.folder.root))
    records = finished_study.records
    assert list(results.records) == [trial.id for trial in finished_study.plan.trials]
    assert dict(results.records) == records
    assert set(results.trials.trial) == set(records)
    curves = results.curves.set_index(["trial", "step"])
    for trial, record in records.items():
        own = curves.loc[trial]
        assert own.loss.dropna().tolist() == [point.loss for point in record.steps]
        assert own.validation_loss.dropna().tolist() == [score.loss for score in record.validation]
    assert results.curves.label.nunique() == len(records)
    assert len(results.predictions) == sum(len(record.predictions) for record in records.values())
    assert results.summary is None


def test_results_of_an_older_release_are_read() -> None:
    """Two trials written by commit 831d9b0, before repeats, other tasks, probes and rows of examples."""
    results = Results(OLD)
    trained = results.records["82906e092ebfaaa8"]
    assert trained.label == "arithmetic · soft · isotropic · 0.05 · seed 0"
    assert [point.loss for point in trained.steps] == results.curves.loss.dropna().tolist()
    assert results.trials.test_loss.tolist() == [5.419013738632202, 2.1432470372981496]
    assert results.trials.test_loss.tolist() == [record.test.loss for record in results.records.values()]
    assert results.posteriors[trained.id].final[Place(0)].shape == (2, 128)
    assert results.geometry.place.tolist() == list(trained.geometry)
    assert (len(results.predictions), len(results.examples), len(results.sanity)) == (4, 0, 0)
    assert results.study["spec"]["name"] == "old"


def test_results_of_an_older_release_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial without a record runs, with the id and the losses that it had; the other is kept."""
    folder = StudyFolder(shutil.copytree(OLD, tmp_path / "old"))
    trained, baseline = "82906e092ebfaaa8", "9a23d9fb7cc09227"
    before, kept = load_record(folder.record(trained)), folder.record(baseline).read_bytes()
    folder.record(trained).unlink()
    folder.posterior(trained).unlink()
    ran: list[str] = []

    def without_ray(study: object, trials: list[TrialSpec], *_: object, **__: object) -> None:
        ran.extend(run(trial, folder.root).id for trial in trials)

    monkeypatch.setattr(grid, "run_trials", without_ray)
    study = StudySpec.model_validate(read_header(folder.study)["spec"])
    records = grid.Grid(*plan_study(study)).run(folder)
    assert ran == [trained]
    assert folder.record(baseline).read_bytes() == kept
    assert {record.status for record in records.values()} == {"finished"}
    losses = [point.loss for point in records[trained].steps]
    assert losses == pytest.approx([point.loss for point in before.steps], rel=1e-5)
    assert set(Results(folder.root).trials.trial) == {trained, baseline}


def test_posteriors_are_those_of_trained_trials(finished_study: Finished) -> None:
    results = Results(finished_study.folder.root)
    trained = [trial.id for trial in finished_study.plan.trials if trial.training is not None]
    assert list(results.posteriors) == trained
    assert len(results.posteriors) == len(trained)
    assert results.posteriors[trained[0]].final[Place(0)].shape == (4, 128)
    assert results.posteriors[trained[0][:6]].header == results.posteriors[trained[0]].header
    assert results.posteriors.get("no such trial") is None


def test_where_vectors_went_is_a_row_per_trial_and_place(finished_study: Finished) -> None:
    results = Results(finished_study.folder.root)
    found = results.geometry
    assert list(found.trial) == list(results.posteriors)
    for row in found.itertuples():
        ends = results.posteriors[row.trial]
        place = Place.parse(row.place)
        moved = (ends.final[place] - ends.initial[place]).norm(dim=1).mean()
        assert row.moved == pytest.approx(float(moved), rel=1e-5)
        assert row.label == results.labels[row.trial]


def test_ids_as_tables_print_them_are_found_and_others_refused_in_a_sentence(
    finished_study: Finished,
) -> None:
    results = Results(finished_study.folder.root)
    for trial, short in short_ids(list(results.records)).items():
        assert results.records[short] is results.records[trial]
        assert results.labels[short] == results.labels[trial]
    refusal = r"^'{}' is not the id of one of these \d trials, nor its first 6 or more characters; "
    for unknown in ("no such trial", next(iter(results.records))[:3], ""):
        with pytest.raises(UnknownTrialError, match=refusal.format(unknown)):
            results.records[unknown]
        with pytest.raises(UnknownTrialError, match=refusal.format(unknown)):
            results.posteriors[unknown]
    baseline = next(i for i, record in results.records.items() if record.spec.prior is None)
    assert baseline not in results.posteriors
    with pytest.raises(UnknownTrialError, match="has no posterior, as it has no trained prompt or"):
        results.posteriors[baseline]
    with pytest.raises(UnknownTrialError, match="2 trials have ids that begin with 'abcdef'; give more"):
        full_id("abcdef", ["abcdef1", "abcdef2"])


def test_a_folder_without_a_study_is_refused(tmp_path: Path, finished_study: Finished) -> None:
    with pytest.raises(UserError, match=r"no study\.json"):
        Results(tmp_path)
    folder = finished_study.copy(tmp_path)
    with pytest.raises(UserError, match=r"give the folder of a study in it: small$"):
        Results(folder.root.parent)
    with pytest.raises(UserError, match=r"did you mean 'small'\? Known: small$"):
        Results(folder.root.parent / "smal")
    with pytest.raises(UserError, match=r"give the folder of the study, not a file$"):
        Results(folder.study)
    folder.table.unlink()
    with pytest.raises(UserError, match="does not exist yet"):
        _ = Results(folder.root).trials


LABELS = {
    "priors": ["isotropic", {"fitted": None, "label": "near"}],
    "tasks": [{"arithmetic": SUMS, "label": "sums"}],
    "methods": [{"soft": {"tokens": 4}, "label": "short"}],
}


def test_labels_of_the_study_file_are_shown_before_there_is_a_table_and_while_it_is_old(
    tmp_path: Path, finished_study: Finished
) -> None:
    """Labels are no part of trials: the finished study, given labels, and then another seed."""
    folder = finished_study.copy(tmp_path)
    more = study_file(tmp_path / "more.yaml", **LABELS, seeds=[0, 1])
    plan = plan_study(load_grid(more))
    for trial, record in finished_study.records.items():
        if record.spec.seed is not None:
            spec = record.spec.model_copy(update={"seed": 1})
            save_record(folder.record(spec.id), record.model_copy(update={"id": spec.id, "spec": spec}))
            rows = load_examples(folder.examples(trial), trial, record.examples or 0)
            save_examples(folder.examples(spec.id), spec.id, rows_of(rows))
    write_study(folder, plan.spec, plan.trials)
    old = Results(folder.root)
    assert len(old.trials) == 3
    folder.table.unlink()
    for results in (old, Results(folder.root)):
        assert dict(results.labels) == labels(plan.trials)
        assert sorted(results.labels.values())[-1] == "sums · short · near · 0.05 · seed 1"
        assert results.examples.task.unique().tolist() == ["sums"]
        assert set(results.curves.label) | set(results.predictions.label) == set(results.labels.values())
        assert len(results.sanity) > 0
    assert {run.axes["prior"] for run in read(folder.root).study.runs} == {"isotropic", "near"}


def test_other_tasks_are_those_that_the_study_names_now(tmp_path: Path, finished_study: Finished) -> None:
    folder, words = finished_study.copy(tmp_path), {"name": "words", "params": {}}
    trial = next(i for i, record in finished_study.records.items() if record.spec.seed is not None)
    record = finished_study.records[trial]
    stale = record.spec.evaluation.model_copy(update={"also": (Entry.model_validate(words),)})
    spec = record.spec.model_copy(update={"evaluation": stale})
    save_record(folder.record(trial), record.model_copy(update={"spec": spec}))
    assert Results(folder.root).records[trial].spec.evaluation.also == ()
    assert [lost for record in Results(folder.root).records.values() for lost in lacking(record)] == []
    also = [{"arithmetic": SUMS}, {"arithmetic": {**SUMS, "train_examples": 190}}]
    evaluation = {"examples": 10, "generate": 4, "also": also}
    plan = plan_study(load_grid(study_file(tmp_path / "m.yaml", evaluation=evaluation)))
    write_study(folder, plan.spec, plan.trials)
    found = Results(folder.root).records[trial]
    assert [lost.wanted.params["train_examples"] for lost in lacking(found)] == [190], "and not its own"
    assert found.id == trial == found.spec.id


def test_a_study_from_before_study_json_had_entries_has_the_labels_of_its_table(
    tmp_path: Path, finished_study: Finished
) -> None:
    folder = finished_study.copy(tmp_path)
    plan = plan_study(load_grid(study_file(tmp_path / "l.yaml", **LABELS)))
    write_table(folder, plan.trials, plan.components, finished_study.records)
    header = read_header(folder.study)
    del header["entries"]
    folder.study.write_text(json.dumps(header), encoding="utf-8")
    found = Results(folder.root)
    assert labels([record.spec for record in found.records.values()]) == dict(found.labels)
    assert "sums · short · near · 0.05 · seed 0" in found.labels.values()
    table = pq.read_table(folder.table)
    pq.write_table(table.drop([name for name in table.column_names if name.endswith("_label")]), folder.table)
    assert len(Results(folder.root).records) == len(found.records), "from before entries had labels"
    folder.table.write_bytes(b"PAR1")
    assert "arithmetic · soft · fitted · 0.05 · seed 0" in Results(folder.root).labels.values()


def test_a_damaged_file_is_one_sentence_with_its_remedy(tmp_path: Path, finished_study: Finished) -> None:
    folder = finished_study.copy(tmp_path)
    first, second = (i for i, record in finished_study.records.items() if record.spec.seed is not None)
    folder.table.write_bytes(folder.table.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"trials\.parquet is damaged \(.*\); run the study again"):
        _ = Results(folder.root).trials
    results = Results(folder.root)
    assert len(results.curves) > 0
    folder.posterior(first).unlink()
    with pytest.raises(UserError, match=r"no posterior file .*; copy it .*, or run the study again into"):
        results.posteriors[first]
    folder.record(first).write_text("{", encoding="utf-8")
    found = Results(folder.root)
    with pytest.raises(
        UserError, match=f"{first}.json is not a record .*; restore it, or delete it to run the trial again"
    ):
        _ = found.records
    assert first not in found.sound.records
    assert found.posteriors[second].final


def test_examples_are_joined_over_all_trials(finished_study: Finished) -> None:
    found = Results(finished_study.folder.root).examples
    assert list(found.columns) == ["trial", "label", *(name for name, _ in COLUMNS), "exact_match"]
    assert len(found) == 30, "ten of each of three trials, the baseline among them"
    assert found.task.unique().tolist() == ["arithmetic"]
    for trial, own in found.groupby("trial"):
        test = finished_study.records[trial].test
        assert test is not None
        assert own.nll.sum() / own.tokens.sum() == pytest.approx(test.loss, rel=1e-12)
    wide = found.pivot(index="example", columns="label", values="nll")
    assert wide.shape == (10, 3)
    assert wide.notna().all(axis=None), "every trial has the same examples"


def test_examples_that_are_lost_are_told_and_the_others_are_there(
    tmp_path: Path, finished_study: Finished
) -> None:
    folder = finished_study.copy(tmp_path)
    gone, cut, whole = finished_study.records
    folder.examples(gone).unlink()
    folder.examples(cut).write_bytes(folder.examples(cut).read_bytes()[:-100])
    results = Results(folder.root)
    with pytest.warns(UserWarning, match="examples of 2 trials are left out: .*no file .*copy it"):
        found = results.examples
    assert found.trial.unique().tolist() == [whole]
    assert len(results.trials) == len(results.records) == 3


def test_a_study_from_before_there_were_rows_has_none(tmp_path: Path, finished_study: Finished) -> None:
    folder = finished_study.copy(tmp_path)
    for trial, record in finished_study.records.items():
        folder.examples(trial).unlink()
        save_record(folder.record(trial), record.model_copy(update={"examples": None}))
    found = Results(folder.root).examples
    assert found.empty
    assert list(found.columns) == ["trial", "label", *(name for name, _ in COLUMNS)]


@pytest.mark.parametrize(
    "entries",
    [{"known": [{}], "trials": {}}, {"known": [], "trials": None}, {"known": 1}, ["known"], {"trials": {}}],
)
def test_damaged_entries_of_study_json_are_one_sentence(finished_study, tmp_path, entries):
    folder = finished_study.copy(tmp_path)
    study = read_header(folder.study)
    folder.study.write_text(json.dumps({**study, "entries": entries}))
    with pytest.raises(UserError, match=r"study\.json is damaged: its 'entries' cannot be read"):
        _ = Results(folder.root).records
    with pytest.raises(UserError, match="its 'entries' cannot be read"):
        planned_priors(Results(folder.root).study)
