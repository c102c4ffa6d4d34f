"""Studies that probe finished prompts: what is planned, what is still to do, and the columns."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.support.endings import _study
from jobs.support.exits import FAILED, FINISHED
from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.inputs.specs import TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.library.results import Results
from softprior.results.probed import Probed, Projection, Removal
from softprior.results.records import Record, TaskScore, save_record
from softprior.studies.describe import closing_notes, extending
from softprior.studies.estimate import total_cost
from softprior.studies.grid import Grid
from softprior.studies.plan import Plan, plan_study
from softprior.studies.table import write_study, write_table
from softprior.tracking.contents import once
from softprior.training.extension import NEVER, Extension, lacking, left_out, not_extended
from softprior.training.probes import ALONE, ELSEWHERE
from tests.builders import Finished, study_file

REMOVAL = Removal(
    removed=1, loss=1.0, near=1.5, far=2.5, random=2, random_draws=(2.0,), near_untrained=3, far_untrained=4
)
PROJECTION = Projection(
    distance=0.5,
    tokens=(1, 2),
    loss=3,
    divergence=0.2,
    agreement=0.75,
    untrained_loss=4,
    untrained_divergence=0.3,
    untrained_agreement=0.5,
    random_loss=5,
    random_divergence=0.4,
    random_agreement=0.25,
)


def planned(path: Path, probes: list[str] | None = None, **changes: Any) -> Plan:
    """A plan that estimates lengths, whether or not another test has tokenised the task's rows."""
    evaluation = {"examples": 10, "generate": 4} | ({} if probes is None else {"probes": probes})
    file = study_file(path / "small.yaml", evaluation=evaluation, **changes)
    plan = plan_study(load_grid(file), "small.yaml")
    return plan._replace(components=replace(plan.components, lengths={}))


def probed(record: Record, **found: Removal | Projection) -> Record:
    probes = [Probed(probe=probe, found=one, examples=10, sources="s") for probe, one in found.items()]  # type: ignore[arg-type]
    return record.model_copy(update={"probes": tuple(probes)})


def finished(trial: TrialSpec) -> Record:
    return Record(id=trial.id, label="", spec=trial, status="finished")


def test_trials_keep_their_ids_and_the_plan_counts_the_work(tmp_path: Path) -> None:
    plain, more = planned(tmp_path), planned(tmp_path, ["removal", "projection"])
    assert [trial.id for trial in more.trials] == [trial.id for trial in plain.trials]
    one, other = (total_cost(plan.trials, plan.components) for plan in (plain, more))
    assert other.trained == one.trained
    # Two prompts, ten examples of 20 tokens: 10 losses of removal; a loss and a comparison of 7 projections.
    assert other.evaluated - one.evaluated == 2 * 10 * 20 * (10 + 7 * 3)
    looked = planned(tmp_path, ["attention", "nearest"])
    # With the trained prompt, with its sample and without; no text goes forward for the nearest tokens.
    attended = total_cost(looked.trials, looked.components)
    assert attended.evaluated - one.evaluated == 2 * 10 * 20 * 3
    line = extending((Extension(finished(trial), trial) for trial in more.trials), more.components)
    assert line.startswith(
        "3 finished trials probed (removal, projection), from the saved posteriors: at most"
    )


def test_finished_proposals_between_the_ends_of_a_search_are_counted(tmp_path: Path) -> None:
    plan = planned(tmp_path, ["removal"])
    methods = [planned(tmp_path, methods=[{"soft": {"tokens": n}}]).trials[1].method for n in (4, 5)]
    known, between = (plan.trials[1].model_copy(update={"method": method}) for method in methods)
    assert between.method.canonical() not in plan.components.methods
    one, other = (
        extending([Extension(finished(trial), trial)], plan.components) for trial in (between, known)
    )
    assert one == other


def test_a_probe_named_twice_gets_a_note_and_counts_once(tmp_path: Path) -> None:
    plan = planned(tmp_path, ["removal", "removal"])
    assert "evaluation.probes[1] is the same as evaluation.probes[0] and counts once; remove it" in plan.notes
    once_only = planned(tmp_path, ["removal"])
    assert total_cost(plan.trials, plan.components) == total_cost(once_only.trials, plan.components)


def test_wrong_probes_get_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluation\.probes\[0\] = 'removel'.*did you mean 'removal'"):
        planned(tmp_path, ["removel"])
    with pytest.raises(UserError) as error:
        planned(tmp_path, ["removal"], methods=[{"prefix": {"tokens": 4}}])
    assert str(error.value) == (
        f"small.yaml: evaluation.probes: in prompts of prefix {ELSEWHERE}, or leave out removal"
    )
    with pytest.raises(
        UserError, match="a prompt of one vector has none to remove; use more tokens, or leave"
    ):
        planned(tmp_path, ["removal"], methods=[{"soft": {"tokens": 1}}])


def test_methods_that_are_left_out_are_named(tmp_path: Path) -> None:
    plan = planned(tmp_path, ["removal"], methods=["soft", "prefix", {"deep": {"last": 1}}])
    assert f"evaluation.probes (removal) leaves out prompts of prefix, deep, where {ELSEWHERE}" in plan.notes
    short: list[Any] = [{"soft": {"tokens": 1}}, "prefix"]
    plan = planned(tmp_path, ["removal", "nearest"], methods=["soft", *short])
    assert [note for note in plan.notes if "evaluation.probes" in note] == [
        f"evaluation.probes (removal) leaves out prompts of soft, where {ALONE}",
        f"evaluation.probes (removal, nearest) leaves out prompts of prefix, where {ELSEWHERE}",
    ]
    with pytest.raises(UserError) as error:
        planned(tmp_path, ["removal"], methods=short)
    assert str(error.value).endswith(
        f"in prompts of soft {ALONE}; in prompts of prefix {ELSEWHERE}, or leave out removal"
    )
    plan = planned(tmp_path, ["attention"], methods=["soft", "prefix", {"deep": {"last": 1}}])
    assert not [note for note in plan.notes if "evaluation.probes" in note]
    with pytest.raises(UserError, match=r"in prompts of prefix no trained vectors .*, or leave out nearest"):
        planned(tmp_path, ["attention", "nearest"], methods=[{"prefix": {"tokens": 4}}])
    plan = planned(tmp_path, ["removal"], methods=["none"])
    assert "no method has a trained prompt, so evaluation.probes has no effect" in plan.notes


def test_finished_trials_are_probed_and_nothing_else_runs(tmp_path: Path, finished_study: Finished) -> None:
    folder, plan = finished_study.copy(tmp_path), planned(tmp_path, ["removal"])
    baseline, *trained = (trial.id for trial in plan.trials)
    work = Grid(*plan).look(folder, again=False)
    assert (list(work.extended), work.new, set(work.kept)) == (trained, (), {baseline})
    assert all(one.record.spec == one.due for one in work.extended.values()), "which lack all they ask for"
    assert all(one.due.evaluation.probes == ("removal",) for one in work.extended.values())
    save_record(folder.record(trained[0]), probed(finished_study.records[trained[0]], removal=REMOVAL))
    work = Grid(*plan).look(folder, again=False)
    assert list(work.extended) == [trained[1]]
    more = planned(tmp_path, ["projection", "removal"])
    assert list(Grid(*more).look(folder, again=False).extended) == trained
    assert not Grid(*planned(tmp_path)).look(folder, again=False).extended


def test_tables_and_mlflow_have_the_numbers(tmp_path: Path, finished_study: Finished) -> None:
    folder, plan = finished_study.copy(tmp_path), planned(tmp_path, ["projection", "removal"])
    _, first, second = (trial.id for trial in plan.trials)
    records = dict(finished_study.records)
    records[first] = probed(records[first], removal=REMOVAL, projection=PROJECTION)
    write_table(folder, plan.trials, plan.components, records)
    table = {row["trial"]: row for row in pq.read_table(folder.table).to_pylist()}
    assert table[first]["removal/near"] == 1.5
    assert table[first]["removal/far_untrained"] == 4
    assert table[first]["projection/divergence"] == 0.2
    assert table[first]["projection/random_agreement"] == 0.25
    assert table[second]["removal/near"] is None
    assert once(records[first])["removal_random"] == 2
    assert once(records[first])["projection_untrained_loss"] == 4
    write_table(folder, finished_study.plan.trials, finished_study.plan.components, records)
    assert not [name for name in pq.read_table(folder.table).column_names if "removal" in name]


def test_what_was_not_probed_is_told_once(tmp_path: Path, finished_study: Finished) -> None:
    """As long as the study asks for it, and only of prompts."""
    specs = {spec.id: spec for spec in planned(tmp_path, ["projection", "removal"]).trials}
    lost = Probed(probe="removal", error="there is no posterior file p", sources="s")
    skipped = Probed(probe="projection", skipped=ELSEWHERE, sources="s")
    asked = [r.model_copy(update={"spec": specs[i]}) for i, r in finished_study.records.items()]
    records = [r.model_copy(update={"probes": (lost, skipped)}) for r in asked]
    few, note = closing_notes(records)
    assert "accuracy on 4 answers" in few
    assert note == (
        "2 trials not probed (removal), the first arithmetic · soft · isotropic · 0.05 · seed 0: there is no "
        "posterior file p"
    )
    assert [bool(lacking(record)) for record in records] == [False, True, True]
    assert [lost.reason for record in asked for lost in lacking(record)] == [NEVER] * 4
    removed = [r.model_copy(update={"spec": finished_study.records[r.id].spec}) for r in records]
    assert closing_notes(removed) == [few]
    assert not any(map(lacking, removed))
    again = not_extended(planned(tmp_path, ["projection"]).trials[1], records[1], "no room")
    assert again.probes == (skipped,), "the reason went with the probe"


def test_the_status_is_that_of_what_the_study_asks_for_now(tmp_path: Path, finished_study: Finished) -> None:
    """A reason in a record, of a probe or task that its study names no longer, is no failure."""
    folder, plan = finished_study.copy(tmp_path), planned(tmp_path, ["removal"])
    lost = TaskScore(task=Entry(name="squad"), fingerprint="", error="no room", sources="s")
    for spec in plan.trials:
        record = not_extended(spec, finished_study.records[spec.id], "no room")
        save_record(folder.record(spec.id), record.model_copy(update={"also": (lost,)}))
    for now, status in ((plan, FAILED), (finished_study.plan, FINISHED)):
        write_study(folder, now.spec, now.trials)
        results = Results(folder.root)
        assert _study(Console(file=io.StringIO()), results) == status
        told = [note for note in closing_notes(results.ended.values()) if "accuracy on" not in note]
        assert bool(told) is (status == FAILED)


def test_a_death_while_a_prompt_is_probed_is_seen(tmp_path: Path, finished_study: Finished) -> None:
    spec = planned(tmp_path, ["removal"]).trials[1]
    record = finished_study.records[spec.id]
    assert left_out(spec, record, untold=True)
    told = not_extended(spec, record, "its process died")
    assert [one.error for one in told.probes] == ["its process died"]
    assert not left_out(spec, told, untold=True)
    assert left_out(spec, told, untold=False)
    done = probed(record, removal=REMOVAL)
    assert not left_out(spec, done, untold=False)
    assert not_extended(spec, done, "its process died").probes == done.probes
