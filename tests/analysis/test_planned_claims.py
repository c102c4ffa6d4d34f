"""The plan in study.json: written before any trial has finished, and what it says of changes since."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.findings.changes import added, lost
from analysis.findings.claims import CLAIMS, JUDGED
from analysis.findings.design import Design, design_of, expected
from analysis.findings.judging import judge
from analysis.findings.planning import plan_claims
from analysis.findings.reading import read_studies
from analysis.findings.simulated import Truth, simulated
from analysis.findings.study import Study
from analysis.findings.values import Finding
from analysis.report.verdicts import row
from jobs.support.evidence import planned_claims
from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.results.digested import read_header
from softprior.results.folder import StudyFolder
from softprior.results.records import Continued, load_record, save_record
from softprior.studies.observers import Work
from softprior.studies.table import write_study
from tests.builders import Finished, with_seeds

RULES = {claim.name: claim.rule for claim in CLAIMS}
BY_NAME = {judged.claim.name: judged for judged in JUDGED}
NEAR_TOKENS_ONCE = (
    "Of each prior: supported if both numbers are above zero, so that the near ones are missed less "
    "(corrected p of the sign-flip test at most 0.05 and a 95% interval above zero), contradicted if "
    "both are below zero in the same way. If one is above and the other below, it depends on the metric; "
    "if one does not decide, it is undecided."
)
"""As studies of November 2026 have it in their `study.json`."""

PRIORS = (Entry(name="isotropic", params={"scale": 0.02}), Entry(name="fitted"), Entry(name="vocabulary"))


def header(folder: StudyFolder) -> Any:
    return read_header(folder.study)


def work(study: Finished, designed: bool = True) -> Work:
    trials = tuple(study.plan.trials)
    return Work(trials, {}, (), len(trials), designed=designed)


def started(study: Finished, root: Path) -> StudyFolder:
    """A study's folder when its first run begins, claims planned; then its records are there."""
    folder = study.copy(root)
    for trial in study.records:
        folder.record(trial).unlink()
    plan_claims(folder, work(study))
    for trial, record in study.records.items():
        save_record(folder.record(trial), record)
    return folder


def test_the_plan_is_written_when_a_study_starts_and_kept_when_it_goes_on(
    finished_study: Finished, tmp_path: Path
) -> None:
    folder = finished_study.copy(tmp_path / "before")
    assert all(found.exploratory for found in judge(read_studies([str(folder.root)]).study))
    folder = started(finished_study, tmp_path)
    assert header(folder)["claims"] == RULES
    design = header(folder)["design"]
    assert design["seeds"] == [0]
    (cell,) = design["cells"]
    assert (cell["task"]["name"], cell["method"]["name"], cell["regularisers"]) == ("arithmetic", "soft", [])
    assert [prior["called"] for prior in cell["priors"]] == ["isotropic", "fitted"]
    before = header(folder)
    write_study(folder, finished_study.plan.spec, finished_study.plan.trials)
    plan_claims(folder, work(finished_study))
    assert header(folder) == before, "the study went on"
    read = read_studies([str(folder.root)]).study
    assert not any(found.exploratory for found in judge(read))


@pytest.mark.parametrize("status", ["finished", "stopped"])
def test_who_has_seen_results_plans_nothing(finished_study: Finished, tmp_path: Path, status: Any) -> None:
    """Also where they are of trials that the study no longer has."""
    folder = finished_study.copy(tmp_path)
    _, *others = finished_study.records
    for trial in others:
        folder.record(trial).unlink()
    record = next(iter(finished_study.records.values()))
    save_record(folder.record(record.id), record.model_copy(update={"status": status}))
    plan_claims(folder, work(finished_study))
    assert {"claims", "design"}.isdisjoint(header(folder))


def test_a_plan_changes_as_long_as_every_trial_has_failed(finished_study: Finished, tmp_path: Path) -> None:
    folder = finished_study.copy(tmp_path)
    for trial, record in finished_study.records.items():
        save_record(folder.record(trial), record.model_copy(update={"status": "failed"}))
    one = finished_study.plan.trials[:2]
    plan_claims(folder, Work(one, {}, (), 2))
    assert [prior["called"] for prior in header(folder)["design"]["cells"][0]["priors"]] == ["isotropic"]
    plan_claims(folder, work(finished_study))
    assert len(header(folder)["design"]["cells"][0]["priors"]) == 2


def test_a_twin_is_no_planned_seed_and_no_planned_prior(
    finished_study: Finished, twinned_study: Finished, tmp_path: Path
) -> None:
    """Twins that are turned on for a finished study leave its findings planned."""
    twins = [trial for trial in twinned_study.plan.trials if trial.twin is not None]
    assert design_of(twins) == Design(seeds=(), cells=())
    assert design_of(twinned_study.plan.trials) == design_of(finished_study.plan.trials)
    folder = started(finished_study, tmp_path)
    before = header(folder)
    for trial in twins:
        save_record(folder.record(trial.id), twinned_study.records[trial.id])
    write_study(folder, twinned_study.plan.spec, twinned_study.plan.trials)
    plan_claims(folder, work(twinned_study))
    assert all(header(folder)[key] == before[key] for key in ("claims", "design"))
    study = read_studies([str(folder.root)]).study
    assert len(study.twins) == 2
    assert added(study.runs, study.design or Design(seeds=(), cells=()))[1] == []
    assert not any(found.exploratory for found in judge(study))


def test_a_search_has_no_design(finished_study: Finished, tmp_path: Path) -> None:
    folder = finished_study.copy(tmp_path)
    for trial in finished_study.records:
        folder.record(trial).unlink()
    plan_claims(folder, work(finished_study, designed=False))
    assert header(folder)["claims"] == RULES
    assert "design" not in header(folder)


def test_a_damaged_design_is_named(finished_study: Finished, tmp_path: Path) -> None:
    folder = started(finished_study, tmp_path)
    folder.study.write_text(json.dumps(header(folder) | {"design": {"seeds": "many"}}), encoding="utf-8")
    with pytest.raises(UserError, match=r"study\.json is damaged: its design"):
        read_studies([str(folder.root)])


def test_a_prior_that_fails_everywhere_leaves_quality_undecided(
    finished_study: Finished, tmp_path: Path
) -> None:
    """It was `whatever the prior` of those that were left: now the lost one is named, planned or not."""
    for planned in (True, False):
        folder = with_seeds(finished_study, tmp_path / str(planned), 3)
        for path in folder.records.glob("*.json"):
            record = load_record(path)
            if record.spec.prior is not None and record.spec.prior.name == "fitted":
                why = {"status": "failed", "error": "step 3: the loss is nan", "test": None}
                save_record(path, record.model_copy(update=why))
        if planned:
            design = design_of(finished_study.plan.trials).model_dump(mode="json")
            folder.study.write_text(json.dumps(header(folder) | {"design": design}), encoding="utf-8")
            for path in folder.records.glob("*.json"):
                if json.loads(path.read_text(encoding="utf-8"))["status"] == "failed":
                    path.unlink()
        (found,) = judge(read_studies([str(folder.root)]).study, (BY_NAME["quality"],))
        assert found.verdict == "undecided"
        assert found.reason == "the planned prior fitted has no usable trial here"
        assert found.settle == "see what is wrong with these trials and run them again"


def of(study: Study, name: str) -> tuple[Finding, ...]:
    return judge(study, (BY_NAME[name],))


def planned(study: Study, seeds: int, priors: int) -> Study:
    """The same study, begun with fewer seeds and priors."""
    names = [prior.canonical() for prior in PRIORS[:priors]]
    trials = [run.record.spec for run in study.runs]
    first = [t for t in trials if t.seed in range(seeds) and t.prior and t.prior.canonical() in names]
    design = design_of(first)
    return replace(study, planned=RULES, design=design, expected=expected([design], trials))


def planned_with(study: Study, steps: int | None) -> Study:
    """The same study, begun with another number of steps."""
    assert study.design is not None
    cells = tuple(cell.model_copy(update={"steps": steps}) for cell in study.design.cells)
    return replace(study, design=study.design.model_copy(update={"cells": cells}))


def test_the_numbers_of_a_lost_prior_stay_but_do_not_decide() -> None:
    study = simulated(Truth(priors=PRIORS, rates=(0.01,)))
    whole = planned(study, 9, 3)
    (found,) = of(whole, "quality")
    assert (found.verdict, found.exploratory) == ("supported", False)
    left = [run for run in study.runs if run.axes["prior"] != "vocabulary"]
    (found,) = of(replace(whole, runs=left), "quality")
    assert found.verdict == "undecided"
    assert found.primary is not None
    assert "because the planned prior vocabulary has no usable trial here;" in found.sentence
    (cell,) = replace(whole, runs=left).cells("prior")
    assert lost(cell, whole.expected) == ["vocabulary"]
    one = [run for run in left if run.axes["prior"] == "isotropic"]
    (found,) = of(replace(whole, runs=one), "quality")
    assert found.reason == "the planned priors fitted, vocabulary have no usable trial here"


def test_no_other_prior_takes_the_place_of_a_lost_first_one() -> None:
    study = simulated(Truth(priors=PRIORS, rates=(0.01,)))
    left = [run for run in study.runs if run.axes["prior"] != "isotropic"]
    for name in ("memory", "forgetting"):
        (found,) = of(replace(planned(study, 9, 3), runs=left), name)
        assert (found.verdict, found.reason) == (
            "undecided",
            "the planned prior isotropic has no usable trial here",
        )


def test_findings_that_rest_on_added_seeds_are_exploratory() -> None:
    study = planned(simulated(Truth(priors=PRIORS, rates=(0.01,))), seeds=7, priors=3)
    (found,) = of(study, "quality")
    assert found.exploratory
    assert found.sentence.endswith("(exploratory: it rests on seeds 7, 8, added after the first results).")
    kept, (addition,) = added(study.runs, study.design or Design(seeds=(), cells=()))
    assert (len(kept), addition.words, len(addition.trials)) == (7 * 3, "seeds 7, 8", 2 * 3)
    as_planned = replace(study, runs=kept)
    (before,) = of(as_planned, "quality")
    assert not before.exploratory
    assert before.added == ""


def test_findings_that_do_not_rest_on_an_added_prior_stay_planned() -> None:
    """Of `memory`, the comparison of two planned priors; of `quality`, nothing: it is about all priors."""
    study = planned(simulated(Truth(priors=PRIORS, rates=(0.01,))), seeds=9, priors=2)
    memory = of(study, "memory")
    assert [(one.where.rsplit(" · ")[-1], one.exploratory) for one in memory] == [
        ("fitted - isotropic", False),
        ("vocabulary - isotropic", True),
    ]
    assert memory[1].added == "prior vocabulary"
    (quality,) = of(study, "quality")
    assert quality.exploratory
    alone = of(replace(study, runs=[r for r in study.runs if r.axes["prior"] != "vocabulary"]), "memory")
    assert alone[0].primary is not None
    assert memory[0].primary is not None
    assert np.array_equal(alone[0].primary.value, memory[0].primary.value)


def test_each_finding_names_what_it_rests_on_and_no_other_addition() -> None:
    """Two seeds and a prior were added: two planned priors' comparison rests on the seeds alone."""
    study = planned(simulated(Truth(priors=PRIORS, rates=(0.01,))), seeds=7, priors=2)
    assert [one.added for one in of(study, "memory")] == ["seeds 7, 8", "seeds 7, 8 and prior vocabulary"]
    few = replace(study, runs=[run for run in study.runs if run.seed < 7 or run.axes["prior"] != "fitted"])
    assert [one.added for one in of(few, "memory")] == ["", "seeds 7, 8 and prior vocabulary"]
    (told,) = [row(one)[1].text for one in of(few, "memory") if one.added]
    assert told == "exploratory: rests on seeds 7, 8 and prior vocabulary"


def test_findings_that_rest_on_raised_steps_are_exploratory() -> None:
    """Where one prior's trials go on from shorter ones, what does not compare it stays planned."""
    study = planned(simulated(Truth(priors=PRIORS, rates=(0.01,))), seeds=9, priors=3)

    def longer(priors: tuple[str, ...]) -> Study:
        on = Continued(trial="a" * 16, step=10)
        runs = [
            replace(run, record=run.record.model_copy(update={"continued": on}))
            if run.axes["prior"] in priors
            else run
            for run in study.runs
        ]
        return replace(study, runs=runs)

    assert [one.added for one in of(longer(("vocabulary",)), "memory")] == ["", "steps beyond 10"]
    every = longer(("isotropic", "fitted", "vocabulary"))
    for whole in (every, replace(every, design=None), planned_with(study, 10)):
        (found,) = of(whole, "quality")
        assert found.exploratory
        assert row(found)[1].text == "exploratory: rests on steps beyond 10"


def test_steps_that_were_planned_otherwise_are_no_part_of_the_plan() -> None:
    """Whether the trials went on or were trained anew; designs of before do not say how many there were."""
    study = planned(simulated(Truth(priors=PRIORS, rates=(0.01,))), seeds=9, priors=3)
    steps = study.runs[0].record.spec.training
    assert steps is not None
    said = {10: "steps beyond 10", steps.steps: "", 10**6: "steps below 1,000,000", None: ""}
    assert {count: of(planned_with(study, count), "quality")[0].added for count in said} == said


def test_a_rule_in_other_words_is_still_the_planned_one() -> None:
    study = planned(simulated(Truth(priors=PRIORS, rates=(0.01,), near=1.0)), seeds=9, priors=3)
    for rule, exploratory in ((NEAR_TOKENS_ONCE, False), ("another rule", True)):
        found = of(replace(study, planned=RULES | {"near-tokens": rule}), "near-tokens")
        assert {one.exploratory for one in found} == {exploratory}


def test_a_rule_in_other_words_counts_where_tests_are_counted(
    finished_study: Finished, tmp_path: Path
) -> None:
    """As the dry run of a study that goes on does."""
    folder = started(finished_study, tmp_path)
    for rule, counts in ((NEAR_TOKENS_ONCE, True), ("another rule", False)):
        claims = header(folder)["claims"] | {"near-tokens": rule}
        folder.study.write_text(json.dumps(header(folder) | {"claims": claims}), encoding="utf-8")
        assert ("near-tokens" in {judged.claim.name for judged in planned_claims(folder)}) is counts


def test_additions_do_not_make_the_correction_of_what_stays_planned_easier() -> None:
    """Of two tasks one gets more seeds; the other's findings are corrected over the planned tests of both."""
    study = planned(simulated(Truth(priors=PRIORS, rates=(0.01,))), seeds=9, priors=2)
    before = of(replace(study, runs=[r for r in study.runs if r.axes["prior"] != "vocabulary"]), "memory")
    after = of(study, "memory")
    assert before[0].primary is not None
    assert after[0].primary is not None
    assert after[0].primary.adjusted >= before[0].primary.adjusted


def test_a_study_that_sets_results_aside_keeps_its_plan(finished_study: Finished, tmp_path: Path) -> None:
    """They were seen, wherever they are now."""
    folder = started(finished_study, tmp_path)
    old = header(folder)["claims"] | {"quality": "another rule"}
    folder.study.write_text(json.dumps(header(folder) | {"claims": old}))
    folder.earlier.records.mkdir(parents=True)
    for trial in finished_study.records:
        folder.record(trial).rename(folder.earlier.record(trial))
    plan_claims(folder, work(finished_study))
    assert header(folder)["claims"] == old


def test_posteriors_that_are_not_there_are_the_reason() -> None:
    study = replace(simulated(Truth(priors=PRIORS, rates=(0.01,))), posteriors={}, planned=RULES)
    for name in ("memory", "collapse"):
        for found in of(study, name):
            assert found.reason == "posteriors of its trials are not in the folder"


def test_files_without_a_design_are_judged_as_before() -> None:
    study = replace(simulated(Truth(rates=(0.01,))), planned=RULES)
    assert not any(found.exploratory for found in judge(study))


def test_paths_play_no_part_and_files_do(finished_study: Finished) -> None:
    """The same prior of a store that has moved is planned; of another store it is not."""
    store = {"statistics": "/a/store", "task": "squad", "site": "resid.0"}
    spec = finished_study.plan.trials[-1]
    paths = ("prior.params.statistics",)
    here = spec.model_copy(
        update={"prior": Entry(name="fitted", params=store), "prior_fingerprint": "f", "paths": paths}
    )
    moved = here.model_copy(update={"prior": Entry(name="fitted", params=store | {"statistics": "/b"})})
    other = here.model_copy(update={"prior_fingerprint": "g"})
    assert design_of([here]) == design_of([moved])
    assert len(design_of([here, other]).cells[0].priors) == 2
    assert "/a/store" not in design_of([here]).model_dump_json(
        exclude={"cells": {0: {"priors": {0: {"called"}}}}}
    )
