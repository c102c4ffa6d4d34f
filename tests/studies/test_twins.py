"""Twins: trials of their own that repeat others from a moved start and are never seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from jobs.support.evidence import forecast
from softprior.errors import UserError
from softprior.inputs.specs import Rate, TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.library.repeats import in_words
from softprior.library.results import Results
from softprior.methods import METHODS
from softprior.priors import PRIORS
from softprior.prompt import Place
from softprior.results.digested import read_header
from softprior.results.examples import load_examples
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import load_posterior
from softprior.results.records import Record, load_record
from softprior.studies.describe import describe, listed
from softprior.studies.estimate import total_cost
from softprior.studies.grid import Grid
from softprior.studies.plan import Plan, plan_study
from softprior.studies.search.plan import SearchPlan
from softprior.studies.search.spec import load
from softprior.studies.table import write_study, write_table
from softprior.training.twins import SHARE, moved, twins_of
from tests.builders import Finished, run, study_file, trial

AT = Place(0)


def planned(file: Path, *overrides: str) -> Plan:
    return plan_study(load_grid(file, overrides))


def test_the_first_seed_of_each_setting_has_a_twin_and_no_other_id_changes(tmp_path: Path) -> None:
    file = study_file(tmp_path / "small.yaml", seeds=[3, 0, 1], rates=[0.05, 0.1])
    plain, more = planned(file), planned(file, "evaluation.twin=true")
    count = len(plain.trials)
    assert [one.id for one in more.trials[:count]] == [one.id for one in plain.trials]
    twins = more.trials[count:]
    assert [one.original for one in twins] == [one.id for one in plain.trials if one.seed == 3]
    assert len({one.id for one in more.trials}) == count + 4
    for twin in twins:
        original = next(one for one in plain.trials if one.id == twin.original)
        assert twin.model_copy(update={"twin": None}) == original, "they differ in the move alone"
        assert twin.twin == SHARE == 1e-6
    assert total_cost(twins, more.components).trained * 3 == total_cost(plain.trials, more.components).trained


def test_ids_of_twins_are_pinned_and_those_of_others_say_nothing_of_them() -> None:
    original = trial().model_copy(update={"model_fingerprint": "m", "data_fingerprint": "d"})
    assert "twin" not in original.canonical()
    assert TrialSpec.model_validate_json(original.canonical()) == original
    (twin,) = twins_of([original], 0)
    assert (original.id, twin.id) == ("c41edcfd2baf5357", "1cb4ee68729baaba")
    assert twin.original == original.id
    assert original.original is None
    assert TrialSpec.model_validate_json(twin.canonical()) == twin
    studied = original.model_copy(
        update={"evaluation": original.evaluation.model_copy(update={"twin": True})}
    )
    assert studied.id == original.id


def test_a_dry_run_counts_twins_and_does_not_count_them_as_seeds(tmp_path: Path) -> None:
    file = study_file(tmp_path / "small.yaml", seeds=[0, 1])
    plan = planned(file, "evaluation.twin=true")
    said = [*describe(plan, plan.trials), *listed(plan.trials, plan.components, 40)]
    assert said[0] == "study small: 7 trials on tiny"
    assert sum(line.endswith("twin") or " twin  " in line for line in said) == 2
    assert any(
        "2 twins among them repeat trials of the first seed from a start moved by 1e-06" in s for s in said
    )
    assert not any("understate" in line for line in said)
    half = planned(file, "evaluation.twin=true", "model={id: tiny, dtype: bfloat16}")
    understated = "note: in bfloat16 the model rounds far more than that: twins understate it"
    assert any(understated in line for line in describe(half, half.trials))
    single = planned(file)
    seeds, alone = (
        forecast(p.trials, p.components, p.model.shape, StudyFolder(tmp_path)) for p in (plan, single)
    )
    assert seeds == alone
    assert seeds[0].startswith("2 seeds: 8 sign-flip tests of 3 claims can give p = 0.5 at best")
    summary = "\n".join(listed(single.trials, single.components, 1))
    assert "4 trials (2 priors, 2 seeds), " in summary
    assert "6 trials (2 priors, 2 seeds, 2 twins), " in "\n".join(listed(plan.trials, plan.components, 1))
    assert not any("twin" in line for line in (*describe(single, single.trials), summary))


def test_every_vector_is_moved_by_the_share_of_its_norm() -> None:
    sample = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [[1e-3], [1], [2], [30], [0]]
    )
    found = moved(sample.double(), 1e-4, AT)
    expected = 1e-4 * sample.double().norm(dim=1)
    expected[4] = 1e-4  # of a vector of zeros
    assert torch.allclose((found - sample).norm(dim=1), expected, rtol=1e-9)
    assert torch.equal(found, moved(sample.double(), 1e-4, AT)), "always in the same directions"
    assert not torch.equal(found - sample, moved(sample.double(), 1e-4, Place(1)) - sample)


@pytest.mark.parametrize("method", ["soft", "prefix"])
def test_a_twin_starts_beside_its_original_and_draws_all_else_alike(tmp_path: Path, method: str) -> None:
    """The literal form: the sample of the original, moved, and the same batches."""
    original = trial(METHODS[method](tokens=4), PRIORS["isotropic"](scale=0.1), steps=1, curve=1)
    (twin,) = twins_of([original], 0)
    first, second = run(original, tmp_path), run(twin, tmp_path)
    starts = [
        load_posterior(tmp_path / "posteriors" / f"{one.id}.safetensors").initial for one in (original, twin)
    ]
    for place, vectors in starts[0].items():
        apart = (starts[1][place] - vectors).norm(dim=1) / vectors.norm(dim=1)
        assert torch.allclose(apart, torch.full((4,), 1e-6), rtol=0.2), "float32 resolves it to a tenth"
        if place.kind != "key":  # keys are turned to their positions after the move
            assert torch.equal(starts[1][place], moved(vectors, 1e-6, place))
    assert first.steps[0].labels == second.steps[0].labels
    assert first.steps[0].loss == pytest.approx(second.steps[0].loss, abs=1e-4)
    untrained = [
        untrained_losses(one, record, tmp_path) for one, record in ((original, first), (twin, second))
    ]
    assert untrained[0] == pytest.approx(untrained[1], abs=1e-3)
    assert untrained[0] != untrained[1], "the untrained sample is moved too"


def untrained_losses(trial: TrialSpec, record: Record, root: Path) -> list[float]:
    """Of each example: their means can be equal by chance, which rounding decides."""
    assert record.untrained is not None
    folder = StudyFolder(root)
    rows = load_examples(folder.examples(trial.id), trial.id, record.untrained.examples)
    return list(rows["untrained_nll"].to_pylist())


def test_a_finished_study_runs_its_twins_only_and_keeps_them_when_they_are_turned_off(
    tmp_path: Path, finished_study: Finished, twinned_study: Finished
) -> None:
    folder = finished_study.copy(tmp_path)
    plan = twinned_study.plan
    work = Grid(*plan).look(folder, again=False)
    assert [one.original for one in work.new] == [
        one.id for one in plan.trials if one.seed is not None and not one.twin
    ]
    assert set(work.kept) == set(finished_study.records)

    folder = twinned_study.copy(tmp_path / "off")
    twins = [one.id for one in plan.trials if one.twin]
    before = {one: folder.record(one).read_bytes() for one in twins}
    assert not Grid(*plan).look(folder, again=False).missing
    assert not Grid(*finished_study.plan).look(folder, again=False).missing
    write_study(folder, finished_study.plan.spec, finished_study.plan.trials)
    write_table(folder, finished_study.plan.trials, finished_study.plan.components, finished_study.records)
    assert {one: folder.record(one).read_bytes() for one in twins} == before
    results = Results(folder.root)
    assert not results.twins
    assert set(results.trials.trial) == set(results.table.trial) == set(finished_study.records)


def test_results_leave_twins_out_wherever_they_would_be_seeds(
    finished_study: Finished, twinned_study: Finished
) -> None:
    results, plain = Results(twinned_study.folder.root), Results(finished_study.folder.root)
    originals = list(finished_study.records)
    assert list(results.records) == originals
    for table in ("trials", "curves", "predictions", "examples"):
        assert (
            getattr(results, table).drop(columns="label").equals(getattr(plain, table).drop(columns="label"))
        )
        assert getattr(results, table).label.tolist() == getattr(plain, table).label.tolist()
    assert list(results.posteriors) == list(plain.posteriors)
    twins = {one.id: one.original for one in twinned_study.plan.trials if one.twin}
    assert {one: record.spec.original for one, record in results.twins.items()} == twins
    assert set(results.ended) == set(results.table.trial) == {*originals, *twins}
    repeated = results.table.dropna(subset="twin")
    assert dict(zip(repeated.trial, repeated.twin, strict=True)) == twins
    assert set(results.sanity.trial) == set(plain.sanity.trial) | set(twins), "their checks count"
    assert all(results.labels[one] == f"{results.labels[of]} · twin" for one, of in twins.items())


def test_records_that_can_be_read_are_without_twins_too(tmp_path: Path, twinned_study: Finished) -> None:
    folder = twinned_study.copy(tmp_path)
    lost, *others = (i for i, record in twinned_study.records.items() if not record.spec.twin)
    folder.record(lost).write_text("{", encoding="utf-8")
    sound = Results(folder.root).sound
    twins = {one.id for one in twinned_study.plan.trials if one.twin}
    assert list(sound.records) == others
    assert set(sound.ended) == {*others, *twins}
    assert len(sound.damaged) == 1
    for own in ("records", "ended", "twins"):
        with pytest.raises(UserError, match=f"{lost}.json is not a record"):
            getattr(Results(folder.root), own)


def test_twins_have_the_labels_of_the_study_file(tmp_path: Path, twinned_study: Finished) -> None:
    folder = twinned_study.copy(tmp_path)
    labelled = study_file(tmp_path / "l.yaml", priors=["isotropic", {"fitted": None, "label": "near"}])
    plan = plan_study(load_grid(labelled, ("evaluation.twin=true",)))
    write_study(folder, plan.spec, plan.trials)
    assert set(read_header(folder.study)["entries"]["trials"]) == {one.id for one in plan.trials}
    results = Results(folder.root)
    (near,) = (record for record in results.twins.values() if record.spec.prior.shown.name == "near")
    assert near.spec.original in results.records
    folder.table.unlink()
    assert Results(folder.root).labels[near.id] == "arithmetic · soft · near · 0.05 · seed 0 · twin"


def test_pairs_are_the_distance_of_their_losses_and_one_line(twinned_study: Finished) -> None:
    results = Results(twinned_study.folder.root)
    losses = {one: record.test.loss for one, record in twinned_study.records.items() if record.test}
    expected = [abs(losses[row.trial] - losses[row.twin]) for row in results.pairs.itertuples()]
    assert results.pairs.apart.tolist() == expected
    assert len(expected) == 2
    assert 0 < max(expected) < 0.05
    assert (
        in_words([0.02, 0.001, 0.004])
        == "twins: 3 pairs, test losses apart by at most 0.02 nats (median 0.004)"
    )
    assert in_words([]) == ""


def test_tables_from_before_there_were_twins_are_read(tmp_path: Path, finished_study: Finished) -> None:
    folder = finished_study.copy(tmp_path)
    table = pq.read_table(folder.table)
    assert table.schema.field("twin").type == "string"
    pq.write_table(table.drop_columns(["twin"]).replace_schema_metadata(None), folder.table)
    results = Results(folder.root)
    assert results.trials.twin.isna().all()
    assert list(results.trials.trial) == list(finished_study.records)
    record = json.loads(folder.record(results.trials.trial[1]).read_text())
    assert "twin" not in record["spec"], "and records of other trials stay as they were"


def test_a_twin_that_failed_is_in_no_pair(tmp_path: Path, twinned_study: Finished) -> None:
    folder = twinned_study.copy(tmp_path)
    twin = next(one.id for one in twinned_study.plan.trials if one.twin)
    record = load_record(folder.record(twin)).model_copy(
        update={"status": "failed", "error": "no", "test": None}
    )
    folder.record(twin).write_text(record.model_dump_json(), encoding="utf-8")
    assert len(Results(folder.root).pairs) == 1


def test_a_folder_of_posteriors_offers_originals_only(tmp_path: Path) -> None:
    original = trial(prior=PRIORS["isotropic"](scale=0.1), steps=1)
    run(original, tmp_path)
    prior = PRIORS["posterior"](file=str(tmp_path))
    before = prior.contents()
    (twin,) = twins_of([original], 0)
    run(twin, tmp_path)
    assert len(list((tmp_path / "posteriors").iterdir())) == 2
    assert prior.contents() == before, "so trials that start from it keep their ids"
    started = run(trial(prior=prior, steps=1, rate=Rate(value=1e-3)), tmp_path / "next")
    found = load_posterior(tmp_path / "next" / "posteriors" / f"{started.id}.safetensors").initial[AT]
    assert torch.equal(
        found, load_posterior(tmp_path / "posteriors" / f"{original.id}.safetensors").final[AT]
    )


def test_a_search_trains_no_twins(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "rates": [{"search": {"low": 0.01, "high": 0.1}}],
        "search": {"trials": 2},
        "evaluation": {"examples": 10, "twin": True},
    }
    file = study_file(tmp_path / "search.yaml", **changes)
    with pytest.raises(UserError, match=r"evaluation\.twin is for grids: .*; leave it out"):
        SearchPlan(load(file), str(file))  # type: ignore[arg-type]
    plain = SearchPlan(load(file, ("evaluation.twin=false",)), str(file))  # type: ignore[arg-type]
    without = study_file(tmp_path / "other.yaml", **{**changes, "evaluation": {"examples": 10}})
    assert plain.identity() == SearchPlan(load(without), str(file)).identity()  # type: ignore[arg-type]
