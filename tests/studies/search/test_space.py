"""Ranges in study files: what they become, and the sentences about wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from jobs import study as command
from softprior.errors import UserError
from softprior.inputs.labels import labels
from softprior.inputs.specs import StudySpec, TrialSpec
from softprior.results.folder import StudyFolder
from softprior.studies.search.plan import SearchPlan
from softprior.studies.search.spec import SearchStudy, load
from softprior.studies.search.storage import require_storage
from tests.builders import study_file

SCALE = {"search": {"low": 0.001, "high": 1.0, "log": True}}

RANGES: dict[str, Any] = {
    "priors": [{"isotropic": {"scale": SCALE}}, "fitted", {"exclusion": {"c": 5}}, {"exclusion": {"c": 2}}],
    "methods": [{"soft": {"tokens": {"search": {"low": 2, "high": 6, "int": True}}}}],
    "rates": [{"search": {"low": 0.01, "high": 0.1, "log": True}}],
    "training": {"steps": 6, "batch": {"search": {"choices": [4, 8]}}, "checkpoint": 1},
    "search": {"trials": 3},
}


def plan(folder: Path, **changes: Any) -> SearchPlan:
    file = study_file(folder / "small.yaml", **{**RANGES, **changes})
    found = load(file)
    assert isinstance(found, SearchStudy)
    return SearchPlan(found, str(file))


def test_every_range_and_every_list_with_a_choice_is_a_parameter(tmp_path: Path) -> None:
    parameters = {p.name: (p.distribution, p.condition) for p in plan(tmp_path).space.parameters}
    assert parameters == {
        "priors": (CategoricalDistribution(["isotropic", "fitted", "exclusion", "exclusion-2"]), None),
        "priors.isotropic.scale": (FloatDistribution(0.001, 1.0, log=True), ("priors", "isotropic")),
        "methods.soft.tokens": (IntDistribution(2, 6), None),
        "rates": (FloatDistribution(0.01, 0.1, log=True), None),
        "training.batch": (CategoricalDistribution([4, 8]), None),
    }


def test_a_point_is_an_ordinary_trial(tmp_path: Path) -> None:
    searched = plan(tmp_path)
    chosen = {"priors": "isotropic", "priors.isotropic.scale": 0.5}
    chosen |= {"methods.soft.tokens": 3, "rates": 0.02, "training.batch": 8}
    (trial,) = searched.at(searched.space.point(FixedTrial(chosen)))
    assert trial.prior is not None
    assert trial.training is not None
    assert (trial.prior.name, trial.prior.params) == ("isotropic", {"scale": 0.5})
    assert trial.method.params["tokens"] == 3
    assert trial.training.batch == 8
    plain = study_file(
        tmp_path / "plain.yaml",
        priors=[{"isotropic": {"scale": 0.5}}],
        methods=[{"soft": {"tokens": 3}}],
        rates=[0.02],
        training={"steps": 6, "batch": 8, "checkpoint": 1},
    )
    found = load(plain)
    assert isinstance(found, StudySpec)
    from softprior.studies.plan import plan_study

    assert trial.id in {t.id for t in plan_study(found).trials}


def test_a_condition_that_does_not_hold_leaves_its_range_out(tmp_path: Path) -> None:
    searched = plan(tmp_path)
    study = optuna.create_study()
    study.enqueue_trial(
        {"priors": "exclusion-2", "methods.soft.tokens": 2, "rates": 0.1, "training.batch": 4}
    )
    asked = study.ask()
    (trial,) = searched.at(searched.space.point(asked))
    assert "priors.isotropic.scale" not in asked.params
    assert trial.prior is not None
    assert trial.prior.params["c"] == 2


def test_tasks_and_seeds_are_a_grid_that_every_proposal_runs(tmp_path: Path) -> None:
    searched = plan(tmp_path, seeds=[0, 1, 2], priors=["fitted", "xavier"])
    study = optuna.create_study()
    trials = searched.at(searched.space.point(study.ask()))
    assert {trial.seed for trial in trials} == {0, 1, 2}
    assert searched.members == 3


def test_lists_and_mappings_may_be_choices(tmp_path: Path) -> None:
    modules = {"search": {"choices": [["mul"], ["mul", "div"]]}}
    searched = plan(tmp_path, tasks=[{"arithmetic": {"modules": modules, "test_examples": 8}}])
    seen = set()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(8):
        (trial,) = searched.at(searched.space.point(study.ask()))
        seen.add(tuple(sorted(trial.task.params["modules"])))
    assert seen == {("mul",), ("div", "mul")}


def test_a_dry_run_says_what_is_searched_and_what_it_costs(tmp_path: Path, capsys) -> None:
    file = study_file(tmp_path / "small.yaml", **RANGES)
    assert command.main([str(file), "--dry-run", "--results", str(tmp_path / "results")]) == 0
    output = capsys.readouterr().out
    assert "3 proposals by tpe" in output
    assert "priors.isotropic.scale: 0.001 to 1 (log), where priors is isotropic" in output
    assert "positions trained" in output
    assert not (tmp_path / "results").exists()


BATCH = {"search": {"low": 1, "high": 2, "int": True}}
ASHA = {"asha": {"grace": 10}}
WRONG = {
    "no search": ({"search": None}, "is a range, but the study has no search"),
    "unknown parameter": (
        {"priors": [{"isotropic": {"scal": SCALE}}]},
        "did you mean 'priors[0].isotropic.scale'",
    ),
    "unknown key": (
        {"training": {"steps": 6, "batsh": {"search": {"low": 1, "high": 2}}}},
        "did you mean 'training.batch'",
    ),
    "unknown key of a search": ({"search": {"trails": 3}}, "did you mean 'search.trials'"),
    "unknown key of a range": (
        {"rates": [{"search": {"lo": 1, "high": 2}}]},
        "did you mean 'rates[0].search.low",
    ),
    "empty range": ({"rates": [{"search": {"low": 1, "high": 1}}]}, "low below high"),
    "half a range": ({"rates": [{"search": {"low": 1}}]}, "low and high, or choices"),
    "zero in a logarithm": ({"rates": [{"search": {"low": 0, "high": 1, "log": True}}]}, "above zero"),
    "fractions": ({"rates": [{"search": {"low": 0.5, "high": 2, "int": True}}]}, "whole numbers"),
    "one choice": ({"rates": [{"search": {"choices": [1]}}]}, "2 or more entries"),
    "end out of range": ({"rates": [{"search": {"low": -1, "high": 2}}]}, "greater than 0"),
    "model": (
        {"model": {"id": "tiny", "dtype": {"search": {"choices": ["float32", "bfloat16"]}}}},
        "model cannot be",
    ),
    "nothing to search": (
        {"priors": ["fitted"], "methods": ["soft"], "rates": [0.1], "training": {"steps": 6, "batch": 8}},
        "nothing to search over",
    ),
    "pair": (
        {"priors": ["zeros", "fitted"]},
        "priors[0] cannot start methods[0], and a search combines any two: zeros is only for keys and",
    ),
    "unknown sampler": ({"search": {"trials": 3, "sampler": "tp"}}, "did you mean 'tpe'"),
    "unknown objective": ({"search": {"trials": 3, "objective": "loss"}}, "distance_moved"),
    "objective without its loss": ({"search": {"trials": 3, "objective": "steps_to"}}, "steps_to: {loss"),
    "several for cmaes": (
        {"search": {"trials": 3, "sampler": "cmaes", "objective": ["validation_loss", "distance_moved"]}},
        "one objective",
    ),
    "stopping by two": (
        {"search": {"trials": 3, "early_stopping": ASHA, "objective": ["validation_loss", "distance_moved"]}},
        "validation_loss as its only",
    ),
    "stopping without a curve": ({"search": {"trials": 3, "early_stopping": ASHA}}, "training.curve"),
    "stopping past the end": (
        {
            "search": {"trials": 3, "early_stopping": ASHA},
            "training": {"steps": 6, "batch": {"search": {"choices": [4, 8]}}, "curve": 6},
        },
        "grace = 10 counts steps and is not before the end of the longest trial, 6; lower it",
    ),
    "stopping of several seeds": (
        {"search": {"trials": 3, "early_stopping": ASHA}, "seeds": [0, 1]},
        "one seed",
    ),
    "relative database": ({"search": {"trials": 3, "storage": "sqlite:///a.db"}}, "absolute"),
    "database that is not there": (
        {"search": {"trials": 3, "storage": "sqlite:////nowhere/optuna.db"}},
        "cannot be opened: there is no folder /nowhere; make it, or correct the address",
    ),
    "database of a long name": (
        {"search": {"trials": 3, "storage": f"sqlite:////tmp/{'x' * 300}"}},
        "cannot be opened (File name too long); name another file",
    ),
    "database that is none": (
        {"search": {"trials": 3, "storage": f"sqlite:///{__file__}"}},
        "cannot be opened: it is not an SQLite database; name another file",
    ),
    "range of pairings": ({"pairing": {"search": {"choices": ["noise", "none"]}}}, "pairing is a range"),
    "range of seeds": ({"seeds": [{"search": {"low": 1, "high": 3, "int": True}}]}, "seeds[0] is a range"),
    "step across the range": (
        {"rates": [{"search": {"low": 0.01, "high": 0.1, "step": 5}}]},
        "a whole number of steps",
    ),
    "no earlier search": ({"search": {"trials": 3, "warm_start": "nowhere"}}, "contains no search"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_a_wrong_search_gets_one_helpful_sentence(case: str, tmp_path: Path, capsys) -> None:
    changes, hint = WRONG[case]
    file = study_file(tmp_path / "wrong.yaml", **{**RANGES, **changes})
    if changes == {"search": None}:
        file.write_text(file.read_text().replace("search: null\n", ""))
    # Without --dry-run a cluster starts meanwhile, which takes seconds to end.
    assert command.main([str(file), "--results", str(tmp_path / "results"), "--dry-run"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("error: ")
    assert hint in captured.err


def test_a_database_in_a_folder_whose_name_is_encoded_is_no_mistake(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    for name in ("new.db", "empty.db"):
        (folder / "empty.db").touch()
        address = f"sqlite:///{tmp_path}/a%20b/{name}?timeout=3"
        require_storage(address, StudyFolder(tmp_path))


def test_a_dry_run_looks_for_the_earlier_search(tmp_path: Path, capsys) -> None:
    file = study_file(tmp_path / "warm.yaml", **{**RANGES, "search": {"trials": 3, "warm_start": "nowhere"}})
    assert command.main([str(file), "--dry-run"]) == 2
    assert "nowhere contains no search" in capsys.readouterr().err


def test_an_override_replaces_a_range(tmp_path: Path) -> None:
    file = study_file(tmp_path / "small.yaml", **RANGES)
    found = load(file, ("priors[0].isotropic.scale=0.1",))
    assert isinstance(found, SearchStudy)
    names = [p.name for p in SearchPlan(found, "x").space.parameters]
    assert "priors.isotropic.scale" not in names


def test_a_grid_reads_as_before(tmp_path: Path) -> None:
    assert isinstance(load(study_file(tmp_path / "small.yaml")), StudySpec)
    with pytest.raises(UserError, match="no study file"):
        load(tmp_path / "none.yaml")


def test_labels_are_shown_and_no_part_of_a_search(tmp_path: Path) -> None:
    before = plan(tmp_path, regularisers=["none", ["spread", "norm_ball"]])
    isotropic, *others = RANGES["priors"]
    priors = [{**isotropic, "label": "blind"}, {"fitted": None, "label": "near"}, *others[1:]]
    terms = ["none", [{"spread": {}, "label": "wide"}, "norm_ball"]]
    named = plan(tmp_path, priors=priors, regularisers=terms)
    assert named.identity().replace('{"spread": {}}', '"spread"') == before.identity()
    assert named.space.parameters == before.space.parameters
    shown = {p.name: (p.distribution, p.condition) for p in named.space.shown_parameters()}
    assert shown["priors"][0].choices == ("blind", "near", "exclusion", "exclusion-2")
    assert shown["priors.blind.scale"] == (FloatDistribution(0.001, 1.0, log=True), ("priors", "blind"))
    assert shown["regularisers"][0].choices == ("none", "wide+norm_ball")
    point = {"priors": "isotropic", "priors.isotropic.scale": 0.5, "methods.soft.tokens": 3, "rates": 0.02}
    point |= {"training.batch": 8, "regularisers": "spread+norm_ball"}
    (one,), (other,) = (p.at(p.space.point(FixedTrial(point))) for p in (named, before))
    assert one.id == other.id
    (again,) = named.recalled([TrialSpec.model_validate_json(one.model_dump_json())], point)
    assert labels([one]) == labels([again])
    assert "soft · blind · norm_ball · wide" in labels([again])[one.id]
    assert {t.prior.shown.name for t in named.ends} == {"isotropic", "near", "exclusion"}
