"""Samplers and storage without trials: a search that was cut off proposes what it would have proposed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from optuna import Trial
from optuna.trial import TrialState

from softprior.errors import UserError
from softprior.inputs.specs import TrialSpec
from softprior.results.folder import StudyFolder
from softprior.results.records import Record, save_record
from softprior.studies.search.plan import SearchPlan
from softprior.studies.search.proposals import NOT_FINITE, Proposals
from softprior.studies.search.spec import load
from softprior.studies.search.storage import REASON, open_search
from softprior.studies.search.summary import summarise
from tests.builders import study_file
from tests.studies.search.test_space import RANGES

SAMPLERS = ["tpe", "random", "gp", "cmaes", "nsgaii"]


def plan(folder: Path, **search: Any) -> SearchPlan:
    file = study_file(folder / "small.yaml", **{**RANGES, "search": {"trials": 40, **search}})
    return SearchPlan(load(file), str(file))


def quality(params: dict[str, Any]) -> float:
    """Something with an optimum, in place of a trial."""
    far = {"isotropic": 0.0, "fitted": 1.0, "exclusion": 2.0, "exclusion-2": 3.0}[params["priors"]]
    return far + math.log(params["rates"] / 0.03) ** 2 + abs(params["methods.soft.tokens"] - 4)


def advance(searched: SearchPlan, folder: StudyFolder, count: int) -> None:
    study = open_search(searched, folder)
    for _ in range(count):
        trial = study.ask()
        searched.space.point(trial)
        values = [quality(trial.params), *[float(trial.params["methods.soft.tokens"])]]
        study.tell(trial, values[: len(searched.search.objective)])


def proposals(searched: SearchPlan, folder: StudyFolder) -> list[dict[str, Any]]:
    return [t.params for t in open_search(searched, folder).get_trials()]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_is_reopened_after_every_proposal_is_the_same(sampler: str, tmp_path: Path) -> None:
    searched = plan(tmp_path, sampler=sampler)
    whole, cut = StudyFolder(tmp_path / "whole"), StudyFolder(tmp_path / "cut")
    advance(searched, whole, 16)
    for _ in range(16):
        advance(searched, cut, 1)
    assert proposals(searched, whole) == proposals(searched, cut)
    assert len({str(p) for p in proposals(searched, whole)}) > 12


def test_a_proposal_that_was_cut_off_is_completed_with_the_same_values(tmp_path: Path) -> None:
    searched = plan(tmp_path)
    whole, cut = StudyFolder(tmp_path / "whole"), StudyFolder(tmp_path / "cut")
    advance(searched, whole, 13)
    advance(searched, cut, 12)
    study = open_search(searched, cut)
    study.ask().suggest_categorical("priors", searched.space.parameters[0].distribution.choices)  # and killed
    with cut.journal.open("ab") as file:
        file.write(b'{"op_code": 5, "worker_')
    study = open_search(searched, cut)
    (left,) = study.get_trials(states=(TrialState.RUNNING,))
    searched.space.point(Trial(study, left._trial_id))
    assert proposals(searched, whole) == proposals(searched, cut)


def test_an_objective_that_is_no_number_is_told_as_a_failure(tmp_path: Path) -> None:
    searched, folder = plan(tmp_path), StudyFolder(tmp_path / "small")
    study = open_search(searched, folder)
    asked = Proposals(study, searched, folder, lambda _: None)
    for _ in range(len(searched.baselines) + 1):
        spec = TrialSpec.model_validate_json(asked.suggest("any")["trial"])
    record = Record(id=spec.id, label="no curve", spec=spec, status="finished")
    save_record(folder.record(spec.id), record)
    asked.ended(record)
    (told,) = study.get_trials()
    assert (told.state, told.values, told.user_attrs[REASON]) == (TrialState.FAIL, None, NOT_FINITE)


def test_another_search_of_the_same_name_is_refused(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "small")
    advance(plan(tmp_path), folder, 1)
    advance(plan(tmp_path, trials=50, sampler="random", concurrent=2), folder, 1)
    with pytest.raises(UserError, match="other ranges, objectives or weights"):
        open_search(plan(tmp_path, objective="distance_moved"), folder)


def test_a_warm_start_tries_the_best_points_first(tmp_path: Path) -> None:
    from softprior.studies.table import write_study

    earlier, later = StudyFolder(tmp_path / "earlier"), StudyFolder(tmp_path / "later")
    searched = plan(tmp_path)
    advance(searched, earlier, 12)
    write_study(earlier, searched.spec, searched.trials)
    best = summarise(open_search(searched, earlier)).best
    warm = plan(tmp_path, warm_start={"study": str(earlier.root), "points": 3})
    advance(warm, later, 4)
    found = proposals(warm, later)
    assert found[:3] == [
        pytest.approx(open_search(searched, earlier).trials[p.number].params) for p in best[:3]
    ]
    open_search(warm, later)  # and not again
    assert len(proposals(warm, later)) == 4


def test_several_objectives_have_a_front_and_every_parameter_an_importance(tmp_path: Path) -> None:
    searched = plan(tmp_path, objective=["validation_loss", {"steps_to": {"loss": 1.5}}])
    folder = StudyFolder(tmp_path / "small")
    advance(searched, folder, 12)
    summary = summarise(open_search(searched, folder))
    assert summary.objectives == ("validation loss", "steps to 1.5")
    for one in summary.best:
        assert not any(
            all(b <= a for a, b in zip(one.values, other.values, strict=True)) and other.values != one.values
            for other in summary.points
        )
    assert {"rates", "methods.soft.tokens", "priors"} <= set(summary.importances[0])
    assert len(summary.importances) == 2
