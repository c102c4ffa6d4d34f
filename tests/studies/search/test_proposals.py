"""What a search does between Tune and Optuna, without trials: waiting, stops, and storages that fail."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from optuna import Study
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from rich.console import Console

from jobs.support.beginnings import tell_beginning
from jobs.support.endings import tell_end
from jobs.support.exits import FAILED, FINISHED
from softprior.errors import UserError
from softprior.inputs.labels import labels
from softprior.inputs.specs import TrialSpec
from softprior.library.studies import run
from softprior.results.folder import StudyFolder
from softprior.results.provenance import code
from softprior.results.records import (
    Record,
    Score,
    TaskScore,
    load_record,
    load_records,
    read_study,
    save_record,
)
from softprior.studies.again import of_other_code
from softprior.studies.cluster import Cluster
from softprior.studies.describe import extending
from softprior.studies.failures import failed
from softprior.studies.observers import Work, no_observers
from softprior.studies.reporting import EVENTS
from softprior.studies.runner import InterruptedStudyError
from softprior.studies.search import run as search_run
from softprior.studies.search import storage
from softprior.studies.search.plan import SearchPlan
from softprior.studies.search.proposals import Proposals
from softprior.studies.search.rungs import Rungs
from softprior.studies.search.spec import load
from softprior.studies.search.storage import TRIALS, open_search
from softprior.studies.table import write_study
from softprior.training.also import fingerprint, other_tasks
from softprior.training.events import Observer, Validation
from tests.builders import SUMS, study_file
from tests.studies.search.test_space import RANGES

STOPPING: dict[str, Any] = {
    "priors": ["fitted"],
    "methods": [{"soft": {"tokens": 4}}],
    "training": {"steps": 6, "batch": 8, "checkpoint": 1, "curve": 6},
    "search": {"trials": 6, "early_stopping": {"asha": {"grace": 2, "reduction": 2}}},
}
LOSSES = [3.0, 2.0, 5.0, 1.0, 4.0, 6.0]
"""Of six proposals, at every step; the third, fifth and sixth are not among the best at their rungs."""


def planned(folder: Path, **changes: Any) -> search_run.Searching:
    file = study_file(folder / "small.yaml", **{**RANGES, **changes})
    return search_run.Searching(load(file), str(file))


def suggested(asked: Proposals) -> TrialSpec | None:
    found = asked.suggest("any")
    return TrialSpec.model_validate_json(found["trial"]) if isinstance(found, dict) else None


def leave(asked: Proposals, folder: StudyFolder, spec: TrialSpec) -> None:
    """A trial's end, as Tune's events tell it."""
    curve = (Score(step=6, loss=1.0, accuracy=None, examples=1, tokens=1),)
    record = Record(id=spec.id, label="any", spec=spec, status="finished", validation=curve)
    save_record(folder.record(spec.id), record)
    asked.ended(record)


def test_a_plan_says_which_known_trials_go_on_from_earlier_ones(tmp_path: Path) -> None:
    searched = planned(tmp_path)
    searched.add(searched.ends[:1])
    line = "  1 trial goes on from step 4 of an earlier one"
    assert line in searched.described(begun={searched.ends[0].id: 4})
    assert line not in searched.described()


def test_the_next_proposal_is_asked_for_once_all_trials_of_the_last_have_ended(tmp_path: Path) -> None:
    searched, folder = planned(tmp_path, seeds=[0, 1]), StudyFolder(tmp_path / "small")
    study = open_search(searched, folder)
    asked = Proposals(study, searched, folder, lambda _: None)
    for _ in searched.baselines:
        assert suggested(asked) is not None
    one, two = suggested(asked), suggested(asked)
    assert one is not None
    assert two is not None
    assert {one.seed, two.seed} == {0, 1}
    assert suggested(asked) is None
    leave(asked, folder, one)
    assert suggested(asked) is None
    assert len(study.get_trials()) == 1
    leave(asked, folder, two)
    assert suggested(asked) is not None
    assert [t.state for t in study.get_trials()] == [TrialState.COMPLETE, TrialState.RUNNING]


def test_a_trial_that_repeats_a_live_one_makes_no_room_for_more(tmp_path: Path) -> None:
    two_points: dict[str, Any] = {
        "priors": ["fitted"],
        "methods": [{"soft": {"tokens": 4}}],
        "rates": [{"search": {"choices": [0.05, 0.1]}}],
        "training": {"steps": 6, "batch": 8},
        "search": {"trials": 9, "concurrent": 3},
    }
    searched, folder = planned(tmp_path, **two_points), StudyFolder(tmp_path / "small")
    study = open_search(searched, folder)
    asked = Proposals(study, searched, folder, lambda _: None)
    for _ in searched.baselines:
        suggested(asked)
    live = []
    while (spec := suggested(asked)) is not None:
        live.append(spec)
    assert 1 <= len(live) <= 2
    assert [t.state for t in study.get_trials()] == [TrialState.RUNNING] * 3
    for spec in live:
        leave(asked, folder, spec)
    assert [t.state for t in study.get_trials()] == [TrialState.COMPLETE] * 3
    named = read_study(folder.study)["trials"]
    assert {spec.id for spec in live} < set(named), "priors take posteriors of a search that was killed"
    folder.study.unlink()
    assert not searched.look(folder, again=False).number({live[0].id}), "nothing has begun in this folder"
    write_study(folder, searched.spec, searched.trials)
    console = Console(width=200, record=True, file=io.StringIO())
    tell_beginning(console, searched, searched.look(folder, again=False), folder, ())
    assert "study small: 3 of 10 trials are finished already" in console.export_text()


def validation(step: int, loss: float) -> Validation:
    return Validation(Score(step=step, loss=loss, accuracy=None, examples=1, tokens=1))


def searched_through(plan: SearchPlan, folder: StudyFolder) -> Study:
    """Goes on with a search whose trials report losses of ours, until it has ended or something raises."""
    study = open_search(plan, folder)
    asked = Proposals(study, plan, folder, lambda _: None)
    rungs = Rungs(plan, folder, asked)
    while (spec := suggested(asked)) is not None:
        if spec.training is None:
            leave(asked, folder, spec)
            continue
        (number,) = asked.numbers(spec.id)
        trial = SimpleNamespace(config={"trial": spec.canonical()})
        curve: list[Score] = []
        status = "finished"
        for step in range(1, 7):
            curve.append(Score(step=step, loss=LOSSES[number], accuracy=None, examples=1, tokens=1))
            if rungs.on_trial_result(None, trial, {EVENTS: [Validation(curve[-1])]}) == "STOP":
                status = "stopped"
                break
        record = Record(id=spec.id, label="any", spec=spec, status=status, validation=tuple(curve))
        if status == "finished":
            save_record(folder.record(spec.id), record)
        asked.ended(record)
    return study


def history(study: Study) -> list[tuple]:
    return [(t.state, t.params, t.values, t.intermediate_values) for t in study.get_trials()]


@pytest.mark.parametrize("method", ["_leave_record", "report"])
def test_killed_while_a_stop_is_noted_it_is_the_undisturbed_search(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, **STOPPING)
    whole = searched_through(plan, StudyFolder(tmp_path / "whole"))
    states = [t.state for t in whole.get_trials()]
    assert TrialState.PRUNED in states
    victim = states.index(TrialState.PRUNED)
    at = max(whole.get_trials()[victim].intermediate_values)

    class Killed(BaseException):
        pass

    def die(*arguments: Any) -> None:
        if method == "_leave_record" or arguments[1:3] == (victim, at):
            raise Killed
        real(*arguments)

    owner = Rungs if method == "_leave_record" else Proposals
    real = getattr(owner, method)
    cut = StudyFolder(tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, die)
        with pytest.raises(Killed):
            searched_through(planned(tmp_path, **STOPPING), cut)
    resumed = searched_through(planned(tmp_path, **STOPPING), cut)
    assert history(resumed) == history(whole)
    assert [t.user_attrs[TRIALS] for t in resumed.get_trials()] == [
        t.user_attrs[TRIALS] for t in whole.get_trials()
    ]


@pytest.mark.parametrize("lost", ["storage", "record"])
def test_an_end_that_cannot_be_told_ends_the_search_and_is_told_next_time(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = planned(tmp_path, **STOPPING), StudyFolder(tmp_path / "small")
    handed: list[TrialSpec] = []

    def run_trials(*arguments: Any) -> None:
        """One trial, in place of Tune."""
        asked = arguments[-1].searcher
        for _ in plan.baselines:
            leave(asked, folder, suggested(asked))
        handed.append(suggested(asked))
        if lost == "record":
            asked.ended(failed(handed[-1], "its record cannot be written", {}))
        else:
            with monkeypatch.context() as patch:
                patch.setattr(type(open_search(plan, folder)._storage), "set_trial_state_values", away)
                leave(asked, folder, handed[-1])
        assert asked.suggest("any") == "FINISHED"
        if lost == "record":
            raise UserError("the records cannot be written")

    def away(*_: Any, **__: Any) -> None:
        raise StorageInternalError("the database is gone")

    monkeypatch.setattr(search_run, "run_trials", run_trials)
    cluster = SimpleNamespace(start=lambda: None)
    said = "stopped answering .the database is gone." if lost == "storage" else "records cannot be written"
    with pytest.raises(UserError, match=said):
        plan.run(folder, no_observers, cluster)
    (left,) = open_search(plan, folder).get_trials()
    assert left.state == TrialState.RUNNING
    asked = Proposals(open_search(plan, folder), plan, folder, lambda _: None)
    if lost == "storage":
        assert [t.state for t in open_search(plan, folder).get_trials()] == [TrialState.COMPLETE]
    else:
        assert suggested(asked) == handed[0]


def leave_all(asked: Proposals, folder: StudyFolder) -> None:
    """Ends every trial that a search asks for, in place of Tune."""
    while (spec := suggested(asked)) is not None:
        leave(asked, folder, spec)


def test_a_search_of_other_code_begins_anew_and_the_old_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = planned(tmp_path, **{**STOPPING, "search": {"trials": 2}}), StudyFolder(tmp_path / "small")

    def run_trials(*arguments: Any) -> None:
        asked = arguments[-1].searcher
        while (spec := suggested(asked)) is not None:
            leave(asked, folder, spec)
            made = load_record(folder.record(spec.id)).model_copy(update={"environment": environment})
            save_record(folder.record(spec.id), made)

    monkeypatch.setattr(search_run, "run_trials", run_trials)
    cluster = SimpleNamespace(start=lambda: None)
    environment: dict[str, Any] = {"commit": "f" * 40, "sources": "0" * 16}
    old = plan.run(folder, no_observers, cluster)
    points = [trial.params for trial in open_search(plan, folder).trials]
    same = planned(tmp_path, **{**STOPPING, "search": {"trials": 2}}).run(folder, no_observers, cluster)
    assert same == old, "without the option it is as it was"
    environment = code()
    fresh = planned(tmp_path, **{**STOPPING, "search": {"trials": 2}})
    new = fresh.run(folder, no_observers, cluster, again=True)
    found = open_search(fresh, folder)
    assert of_other_code(new.values()) == []
    assert load_records(folder.earlier.records) == old
    assert set(new) == set(old), "the same seed proposes the same points"
    assert [t.params for t in found.trials] == points
    storage = found._storage
    names = {
        study.study_name: len(storage.get_all_trials(study._study_id)) for study in storage.get_all_studies()
    }
    assert names == {"small": 2, "small before 1": 2}
    fresh.run(folder, no_observers, cluster, again=True)
    assert open_search(fresh, folder)._study_id == found._study_id, "of this code already"


def test_a_proposal_that_fails_without_a_trial_makes_the_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**STOPPING, "search": {"trials": 3}, "tracking": {"enabled": False}}
    plan = planned(tmp_path, **changes)
    folder = StudyFolder(tmp_path / "results" / "small")
    at, refused = plan.at, []

    def picky(data: dict[str, Any]) -> tuple[TrialSpec, ...]:
        if not refused:
            refused.append(data)
            raise UserError("these values do not fit together; change one of them")
        return at(data)

    monkeypatch.setattr(plan, "at", picky)
    monkeypatch.setattr(
        search_run, "run_trials", lambda *arguments: leave_all(arguments[-1].searcher, folder)
    )
    monkeypatch.setattr(Cluster, "start", lambda _: None)
    console = Console(width=200, record=True, file=io.StringIO())
    works: list[Work] = []

    def listen(work: Work) -> list[Observer]:
        works.append(work)
        return []

    for _ in range(2):  # again, with nothing left to do
        results = run(plan, tmp_path / "results", listen=listen)
        assert tell_end(console, results, works[-1]) == FAILED
        assert "proposal 0 failed: these values do not fit together" in console.export_text()


def test_rungs_are_steps_whatever_the_batch(tmp_path: Path) -> None:
    """Each proposal is worse than all before, so that all but the first are stopped at the first rung."""
    sizes = {"search": {"choices": [1, 64]}}
    changes = {**STOPPING, "training": {"steps": 12, "batch": sizes, "curve": 12}}
    changes["search"] = {"trials": 7, "sampler": "random", "early_stopping": {"asha": {"grace": 5}}}
    plan, folder = planned(tmp_path, **changes), StudyFolder(tmp_path / "small")
    asked = Proposals(open_search(plan, folder), plan, folder, lambda _: None)
    rungs = Rungs(plan, folder, asked)
    stopped = []
    while (spec := suggested(asked)) is not None:
        if spec.training is None:
            leave(asked, folder, spec)
            continue
        (number,) = asked.numbers(spec.id)
        events = [validation(step, 1.0 + number) for step in range(1, 13)]
        trial = SimpleNamespace(config={"trial": spec.canonical()})
        if rungs.on_trial_result(None, trial, {EVENTS: events}) == "STOP":
            record = load_record(folder.record(spec.id))
            stopped.append((spec.training.batch, record.validation[-1].step))
            asked.ended(record)
        else:
            leave(asked, folder, spec)
    assert set(stopped) == {(1, 5), (64, 5)}
    assert len(stopped) == 6


def test_a_search_from_before_a_choice_goes_on_only_as_it_was(tmp_path: Path) -> None:
    """Its trials divided by their steps' own numbers of labels, and its identity does not say so."""
    training = {"steps": 6, "batch": 8}
    old = planned(tmp_path, training=training | {"normalisation": "step"})
    default = planned(tmp_path, training=training)
    assert json.loads(old.identity())["training"] == training
    open_search(old, StudyFolder(tmp_path / "small"))
    with pytest.raises(UserError, match="was started with other ranges"):
        open_search(default, StudyFolder(tmp_path / "small"))
    given = planned(tmp_path, training=training | {"normalisation": "expected"})
    assert given.identity() == default.identity()


def test_a_repeated_point_keeps_its_curve_for_the_rungs(tmp_path: Path) -> None:
    """The proposal that repeats a finished trial is told without a curve; the first has the curve."""
    few = {**STOPPING, "rates": [{"search": {"choices": [0.05, 0.1]}}]}
    plan, folder = planned(tmp_path, **few), StudyFolder(tmp_path / "small")
    study = open_search(plan, folder)
    asked = Proposals(study, plan, folder, lambda _: None)
    rungs = Rungs(plan, folder, asked)
    reported = {}
    while (spec := suggested(asked)) is not None:
        if spec.training is not None:
            reported[spec.id] = dict.fromkeys(range(1, 7), 1.0)
            events = [validation(step, 1.0) for step in range(1, 7)]
            trial = SimpleNamespace(config={"trial": spec.canonical()})
            assert rungs.on_trial_result(None, trial, {EVENTS: events}) == "CONTINUE"
        leave(asked, folder, spec)
    assert len(reported) == 2
    assert len(study.get_trials()) == 6
    assert any(not proposal.intermediate_values for proposal in study.get_trials())
    assert asked.curves() == reported


def test_a_storage_that_fails_at_a_report_lets_the_trial_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = planned(tmp_path, **STOPPING), StudyFolder(tmp_path / "small")
    asked = Proposals(open_search(plan, folder), plan, folder, lambda _: None)
    rungs = Rungs(plan, folder, asked)
    for _ in plan.baselines:
        leave(asked, folder, suggested(asked))
    spec = suggested(asked)

    def away(*_: Any) -> None:
        raise StorageInternalError("the database is gone")

    monkeypatch.setattr(Proposals, "report", away)
    trial = SimpleNamespace(config={"trial": spec.canonical()})
    assert rungs.on_trial_result(None, trial, {EVENTS: [validation(1, 1.0)]}) == "CONTINUE"
    assert str(asked.error) == "the database is gone"
    assert asked.suggest("any") == "FINISHED"


def test_a_search_in_a_database_belongs_to_one_results_folder(tmp_path: Path) -> None:
    search = {"trials": 3, "storage": f"sqlite:///{tmp_path / 'searches.db'}"}
    plan = planned(tmp_path, search=search)
    open_search(plan, StudyFolder(tmp_path / "one" / "small"))
    open_search(plan, StudyFolder(tmp_path / "one" / "small"))
    with pytest.raises(UserError, match=r"has its results in .*/one/small, not in .*/two/small; give"):
        open_search(plan, StudyFolder(tmp_path / "two" / "small"))


def test_what_is_written_down_of_a_database_has_no_password(tmp_path: Path) -> None:
    address = "postgresql://ray:secret@db.example/optuna"
    plan = planned(tmp_path, search={"trials": 3, "storage": address})
    assert plan.spec["search"]["storage"] == "postgresql://ray:***@db.example/optuna"
    assert plan.search.storage == address


def test_several_objectives_start_warm_from_the_front(tmp_path: Path) -> None:
    both = {"trials": 3, "objective": ["validation_loss", "distance_moved"]}
    earlier = planned(tmp_path, search=both)
    first, folder = StudyFolder(tmp_path / "first" / "small"), StudyFolder(tmp_path / "small")
    study = open_search(earlier, first)
    write_study(first, earlier.spec, earlier.trials)
    for values in ([1.0, 9.0], [2.0, 10.0], [3.0, 1.0]):  # the second is beaten by the first in both
        proposal = study.ask()
        earlier.space.point(proposal)
        study.tell(proposal, values)
    warm = {**both, "warm_start": {"study": str(first.root), "points": 2}}
    begun = open_search(planned(tmp_path, search=warm), folder)
    fixed = [trial.system_attrs["fixed_params"] for trial in begun.get_trials()]
    assert fixed == [study.trials[0].params, study.trials[2].params]


def test_a_baseline_that_failed_runs_again_and_its_new_record_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = planned(tmp_path, **{**STOPPING, "search": {"trials": 2}}), StudyFolder(tmp_path / "small")

    monkeypatch.setattr(
        search_run, "run_trials", lambda *arguments: leave_all(arguments[-1].searcher, folder)
    )
    cluster = SimpleNamespace(start=lambda: None)
    (baseline,) = plan.baselines
    save_record(folder.record(baseline.id), failed(baseline, "the node was lost", {}))
    records = plan.run(folder, no_observers, cluster)
    assert records[baseline.id].status == "finished"
    assert folder.summary.exists()
    more = planned(tmp_path, **{**STOPPING, "search": {"trials": 3}})
    monkeypatch.setattr(search_run, "run_trials", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(InterruptedStudyError):
        more.run(folder, no_observers, cluster)
    assert not folder.summary.exists(), "it was of fewer proposals"


def test_attributes_that_stand_in_users_databases_keep_their_names() -> None:
    assert (storage.IDENTITY, storage.RESULTS, storage.WARM, storage.TRIALS, storage.REASON) == (
        "softprior.search",
        "softprior.results",
        "softprior.warm",
        "softprior.trials",
        "softprior.reason",
    )


OTHER = {"arithmetic": SUMS | {"modules": ["mul"]}}


def measure_all(asked: Proposals, folder: StudyFolder, told: list[str], error: str | None = None) -> None:
    """Ends every trial that a search hands out with a score on each other task, or a reason for none."""
    while (spec := suggested(asked)) is not None:
        told.append(spec.id)
        path = folder.record(spec.id)
        if not path.exists():
            leave(asked, folder, spec)
        score = None if error else Score(step=6, loss=1.5, accuracy=None, examples=1, tokens=1)
        also = [
            TaskScore(task=task, fingerprint=fingerprint(task), score=score, error=error, sources="s")
            for task in other_tasks(spec)
        ]
        record = load_record(path).model_copy(update={"also": tuple(also), "spec": spec})
        save_record(path, record)
        asked.ended(record)


def test_a_search_that_goes_on_measures_its_finished_trials_on_other_tasks_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has their scores in its table, whether its trials are those of the file or of records."""
    changes = {**STOPPING, "search": {"trials": 2}, "tracking": {"enabled": False}}
    folder, cluster = StudyFolder(tmp_path / "small"), SimpleNamespace(start=lambda: None)
    handed: list[str] = []

    def go_on(**more: Any) -> list[dict[str, Any]]:
        handed.clear()
        planned(tmp_path, **changes, **more).run(folder, no_observers, cluster)
        return pq.read_table(folder.table).to_pylist()

    monkeypatch.setattr(search_run, "run_trials", lambda *a: measure_all(a[-1].searcher, folder, handed))
    go_on()
    assert len(handed) == 3
    also = {"evaluation": {"examples": 10, "generate": 4, "also": [OTHER]}}
    plan = planned(tmp_path, **changes, **also)
    work = plan.look(folder, again=False)
    assert set(work.extended) == set(load_records(folder.records))
    assert (work.kept, len(work.reused)) == ({}, 3)
    said = extending(work.extended.values(), plan.components)
    assert said.startswith("3 finished trials measured on arithmetic too")
    for _ in range(2):
        assert [row["also/arithmetic/loss"] for row in go_on(**also)] == [1.5] * 3
    assert handed == [], "nothing is measured twice"
    assert not any("also/" in column for column in go_on()[0]), "the file names no other task any longer"
    probing = planned(tmp_path, **changes, evaluation={"examples": 10, "generate": 4, "probes": ["removal"]})
    assert probing.identity() == plan.identity()
    lacking = probing.look(folder, again=False).extended
    assert set(lacking) == {i for i, r in load_records(folder.records).items() if r.spec.training is not None}
    said = extending(lacking.values(), probing.components)
    assert said.startswith("2 finished trials probed (removal), from the saved posteriors: at most")


def test_a_trial_of_a_search_that_was_not_measured_makes_the_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**STOPPING, "search": {"trials": 2}, "tracking": {"enabled": False}}
    folder = StudyFolder(tmp_path / "results" / "small")
    monkeypatch.setattr(Cluster, "start", lambda _: None)
    said: dict[int, tuple[int, str]] = {}
    for turn, error in enumerate(("its process died", None)):
        plan = planned(tmp_path, **changes, evaluation={"examples": 10, "generate": 4, "also": [OTHER]})
        monkeypatch.setattr(
            search_run, "run_trials", lambda *a, e=error: measure_all(a[-1].searcher, folder, [], e)
        )
        console = Console(width=200, record=True, file=io.StringIO())
        works: list[Work] = []
        results = run(plan, tmp_path / "results", listen=lambda work, w=works: w.append(work) or [])
        said[turn] = tell_end(console, results, works[0]), console.export_text()
    assert said[0][0] == FAILED
    assert "note: 3 trials not measured on arithmetic, the first" in said[0][1]
    assert said[1][0] == FINISHED


def test_a_search_says_what_it_searches_and_tests_nothing(tmp_path: Path) -> None:
    """Even once every proposal is known: what was proposed depends on results."""
    plan, folder = planned(tmp_path, **{**STOPPING, "search": {"trials": 2}}), StudyFolder(tmp_path / "small")
    plan.add([plan.ends[0], plan.ends[-1]])
    work = plan.look(folder, again=False)
    assert (len(work.trials), work.designed) == (work.total, False)
    console = Console(width=200, record=True, file=io.StringIO())
    assert tell_beginning(console, plan, work, folder, ()) == plan.notes
    said = console.export_text()
    assert "search small: 2 proposals" in said
    assert "sign-flip" not in said


def test_labels_of_finished_proposals_are_found_without_planning_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**STOPPING, "priors": [{"fitted": None, "label": "near"}], "search": {"trials": 3}}
    folder = StudyFolder(tmp_path / "small")
    plan = planned(tmp_path, **changes)
    leave_all(Proposals(open_search(plan, folder), plan, folder, lambda _: None), folder)
    again = planned(tmp_path, **changes)
    monkeypatch.setattr(again, "at", lambda _: pytest.fail("a proposal was planned again"))
    Proposals(open_search(again, folder), again, folder, lambda _: None)
    assert labels(again.trials) == labels(plan.trials)
    assert sum("near" in label for label in labels(again.trials).values()) == 3
