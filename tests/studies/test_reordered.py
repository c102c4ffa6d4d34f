"""Reordered trials: the start of their originals, another order of the data, and never a seed."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from jobs.support.evidence import forecast
from softprior.errors import UserError
from softprior.inputs.specs import TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.library.results import Results
from softprior.methods import METHODS
from softprior.priors import PRIORS
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.tables import save_table
from softprior.seeding import derive
from softprior.studies.describe import describe, listed
from softprior.studies.estimate import total_cost
from softprior.studies.grid import Grid
from softprior.studies.plan import Plan, plan_study
from softprior.studies.search.plan import SearchPlan
from softprior.studies.search.spec import load
from softprior.studies.table import write_study, write_table
from softprior.tasks import TASKS
from softprior.tasks.batching import training_batches
from softprior.tasks.prepare import prepare
from softprior.training.reordered import order_seed, reordered_of
from softprior.training.twins import twins_of
from tests.builders import Finished, run, study_file, tiny, trial


def planned(file: Path, *overrides: str) -> Plan:
    return plan_study(load_grid(file, overrides))


def test_the_first_seeds_of_each_setting_are_reordered_and_no_other_id_changes(tmp_path: Path) -> None:
    file = study_file(tmp_path / "small.yaml", seeds=[3, 0, 1], rates=[0.05, 0.1])
    plain = planned(file)
    both = planned(file, "evaluation.reordered=2", "evaluation.twin=true")
    count = len(plain.trials)
    assert [one.id for one in both.trials[:count]] == [one.id for one in plain.trials]
    again = [one for one in both.trials if one.repeat == "reordered"]
    assert [one.original for one in again] == [one.id for one in plain.trials if one.seed in (3, 0)]
    assert len({one.id for one in both.trials}) == len(both.trials) == count + 4 + 8
    for one in again:
        original = next(own for own in plain.trials if own.id == one.original)
        assert one.model_copy(update={"reordered": None}) == original, "they differ in the order alone"
    assert total_cost(again, both.components) == total_cost(
        [one for one in plain.trials if one.seed in (3, 0)], both.components
    )


def test_ids_of_reordered_trials_are_pinned_and_those_of_others_say_nothing_of_them() -> None:
    original = trial().model_copy(update={"model_fingerprint": "m", "data_fingerprint": "d"})
    assert "reordered" not in original.canonical()
    (again,), (twin,) = reordered_of([original], {0}), twins_of([original], 0)
    assert (original.id, twin.id, again.id) == ("c41edcfd2baf5357", "1cb4ee68729baaba", "ae3eb1f5b40780b1")
    assert (again.original, again.repeat, original.repeat) == (original.id, "reordered", None)
    assert TrialSpec.model_validate_json(again.canonical()) == again
    more = original.evaluation.model_copy(update={"reordered": 3})
    assert original.model_copy(update={"evaluation": more}).id == original.id
    assert reordered_of([original], {1}) == []
    with pytest.raises(ValueError, match="cannot be both a twin and reordered"):
        TrialSpec.model_validate(again.model_dump() | {"twin": 1e-6})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("3", r"evaluation\.reordered = 3 asks for the first 3 seeds, but the study has 2; lower it to 2"),
        ("-1", r"evaluation\.reordered"),
        ("true", r"evaluation\.reordered"),
    ],
)
def test_a_wrong_number_of_seeds_is_refused(tmp_path: Path, value: str, says: str) -> None:
    file = study_file(tmp_path / "small.yaml", seeds=[0, 1])
    with pytest.raises(UserError, match=says):
        planned(file, f"evaluation.reordered={value}")


def test_no_order_is_that_of_another_seed() -> None:
    originals = [trial(seed=seed) for seed in range(50)]
    again = reordered_of(originals, range(50))
    assert [order_seed(one) for one in originals] == list(range(50))
    assert len({order_seed(one) for one in again} | set(range(50))) == 100
    other = reordered_of([trial(prior=PRIORS["isotropic"](scale=0.1), seed=3)], {3})
    assert order_seed(other[0]) == order_seed(again[3]), "priors share the other order too"


@pytest.mark.parametrize(
    "method",
    [METHODS["soft"](tokens=4), METHODS["prefix"](tokens=2, blocks=(0,), reparameterisation={"width": 3})],
)
def test_a_reordered_trial_has_the_start_of_its_original_and_other_batches(
    tmp_path: Path, method: Any
) -> None:
    original = trial(method, PRIORS["isotropic"](scale=0.1), seed=2, steps=3, curve=1)
    (again,) = reordered_of([original], {2})
    first, second = run(original, tmp_path), run(again, tmp_path)
    one, other = (load_posterior(tmp_path / "posteriors" / f"{i.id}.safetensors") for i in (original, again))
    for place, vectors in one.initial.items():
        assert torch.equal(other.initial[place], vectors)
        assert not torch.equal(other.final[place], one.final[place])
    assert first.untrained == second.untrained
    assert first.validation[0] == second.validation[0]
    assert first.data == second.data, "the same training, validation and test examples"
    loaded = tiny()
    train = prepare(TASKS.component(original.task), loaded.tokenizer, loaded.fingerprint).train
    for record, seed in ((first, 2), (second, derive(2, "reordered", 1))):
        batches = islice(training_batches(train.lengths, 8, seed), 3)
        labels = [sum(sum(train.row(i).labels) for i in batch) for batch in batches]
        assert [step.labels for step in record.steps] == labels
    assert [step.loss for step in first.steps] != [step.loss for step in second.steps]


def test_a_reordered_trial_resumes_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    (again,) = reordered_of([trial(prior=PRIORS["isotropic"](scale=0.1), steps=4)], {0})
    whole = run(again, tmp_path / "whole")

    class Stopped(Exception):
        pass

    def stop(event: Any) -> None:
        point = getattr(event, "point", None)
        if point is not None and point.step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        run(again, tmp_path / "parts", stop)
    resumed = run(again, tmp_path / "parts")
    assert [step.loss for step in resumed.steps] == [step.loss for step in whole.steps]
    assert resumed.test == whole.test


def described(plan: Plan, most: int) -> list[str]:
    return describe(plan, plan.trials) + listed(plan.trials, plan.components, most)


def test_a_dry_run_counts_them_names_them_and_says_what_they_cost(tmp_path: Path) -> None:
    file = study_file(tmp_path / "small.yaml", seeds=[0, 1, 2])
    plan = planned(file, "evaluation.reordered=2")
    said = described(plan, 40)
    assert said[0] == "study small: 11 trials on tiny"
    assert sum(" reordered  " in line for line in said) == 4
    cost = total_cost([one for one in plan.trials if one.repeat], plan.components)
    (line,) = [line for line in said if "reordered among them" in line]
    assert line.strip() == (
        "4 reordered among them repeat trials of the first 2 seeds from the same start, on the training "
        "examples in another order: they tell the data's order from the prior's draw "
        f"({cost.trained:,} positions trained, {cost.evaluated:,} evaluated); no intervals below 3 pairs "
        "and 4 seeds"
    )
    for seeds, count, end in (
        ([0], 1, "; one seed has no spread to tell apart"),
        ([0, 1, 2, 3], 2, "; no intervals below 3 pairs and 4 seeds"),
        ([0, 1, 2, 3], 3, "; 3 pairs of a prior hardly bound the part of the order, more bound it better"),
        ([0, 1, 2, 3, 4], 5, " evaluated)"),
    ):
        other = study_file(tmp_path / "other.yaml", seeds=seeds)
        said = described(planned(other, f"evaluation.reordered={count}"), 40)
        assert next(line for line in said if "reordered among them" in line).endswith(end)
    assert any("10 trials (2 priors, 3 seeds, 4 reordered), " in line for line in described(plan, 1))
    tests = [
        forecast(p.trials, p.components, p.model.shape, StudyFolder(tmp_path)) for p in (plan, planned(file))
    ]
    assert tests[0] == tests[1]
    assert not any("reordered" in line for line in described(planned(file), 40))


def test_a_finished_study_runs_only_what_is_added_and_keeps_it_when_it_is_turned_off(
    tmp_path: Path, twinned_study: Finished, repeated_study: Finished
) -> None:
    folder = twinned_study.copy(tmp_path)
    work = Grid(*repeated_study.plan).look(folder, again=False)
    assert [one.repeat for one in work.new] == ["reordered"] * 2
    assert set(work.kept) == set(twinned_study.records)
    folder = repeated_study.copy(tmp_path / "off")
    assert not Grid(*repeated_study.plan).look(folder, again=False).missing
    plan = twinned_study.plan
    write_study(folder, plan.spec, plan.trials)
    write_table(folder, plan.trials, plan.components, twinned_study.records)
    assert not Results(folder.root).reordered
    assert all(folder.record(one.id).exists() for one in repeated_study.plan.trials)


def test_results_leave_them_out_wherever_they_would_be_seeds(
    tmp_path: Path, twinned_study: Finished, repeated_study: Finished
) -> None:
    results, plain = Results(repeated_study.folder.root), Results(twinned_study.folder.root)
    assert list(results.records) == list(plain.records)
    for table in ("trials", "curves", "predictions", "examples", "geometry", "pairs"):
        assert getattr(results, table).equals(getattr(plain, table)), table
    assert list(results.posteriors) == list(plain.posteriors)
    again = {one.id: one.original for one in repeated_study.plan.trials if one.repeat == "reordered"}
    assert {i: record.spec.original for i, record in results.reordered.items()} == again
    assert list(results.twins) == list(plain.twins)
    repeated = results.table.dropna(subset="reordered")
    assert dict(zip(repeated.trial, repeated.reordered, strict=True)) == again
    assert repeated.twin.isna().all()
    assert all(results.labels[one] == f"{results.labels[of]} · reordered" for one, of in again.items())
    losses = {i: record.test.loss for i, record in results.ended.items() if record.test}
    pairs = results.reordered_pairs
    assert list(pairs) == ["trial", "reordered", "label", "test_loss", "reordered_test_loss", "apart"]
    assert pairs.apart.tolist() == [abs(losses[one] - losses[of]) for one, of in again.items()]
    assert min(pairs.apart) > 0
    folder = twinned_study.copy(tmp_path)
    save_table(folder.table, pq.read_table(folder.table).drop_columns(["reordered"]))
    old = Results(folder.root)
    assert list(old.trials.trial) == list(plain.trials.trial), "a table from before there were any"
    assert list(old.table.twin.dropna()) == list(plain.table.twin.dropna())


def test_a_folder_of_posteriors_offers_originals_only(tmp_path: Path) -> None:
    original = trial(prior=PRIORS["isotropic"](scale=0.1), steps=1)
    run(original, tmp_path)
    prior = PRIORS["posterior"](file=str(tmp_path))
    before = prior.contents()
    run(reordered_of([original], {0})[0], tmp_path)
    assert len(list((tmp_path / "posteriors").iterdir())) == 2
    assert prior.contents() == before, "so trials that start from it keep their ids"


def test_a_search_trains_none(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "rates": [{"search": {"low": 0.01, "high": 0.1}}],
        "search": {"trials": 2},
        "evaluation": {"examples": 10, "reordered": 1},
    }
    file = study_file(tmp_path / "search.yaml", **changes)
    with pytest.raises(UserError, match=r"evaluation\.reordered is for grids: .*; leave it out"):
        SearchPlan(load(file), str(file))  # type: ignore[arg-type]
    plain = SearchPlan(load(file, ("evaluation.reordered=0",)), str(file))  # type: ignore[arg-type]
    without = study_file(tmp_path / "other.yaml", **{**changes, "evaluation": {"examples": 10}})
    assert plain.identity() == SearchPlan(load(without), str(file)).identity()  # type: ignore[arg-type]
