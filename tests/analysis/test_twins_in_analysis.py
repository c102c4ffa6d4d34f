"""Twins beside findings, comparisons, figures and the report: a yardstick, and never a seed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from analysis.comparisons import compare
from analysis.figures.losses import losses_of
from analysis.figures.settings import looks_of
from analysis.findings import collapse
from analysis.findings.claims import JUDGED
from analysis.findings.common import rms
from analysis.findings.judging import judge
from analysis.findings.reading import read, read_studies
from analysis.findings.sentences import beside
from analysis.findings.simulated import PREFIX, Truth, simulated
from analysis.findings.speed import level
from analysis.findings.study import Run, Study, repeats_of, runs_of
from analysis.findings.values import Finding
from analysis.inference.energy import energy_distance
from analysis.overall import overall
from analysis.report import checks, costs
from analysis.report.answer import answer
from analysis.report.trials import listed
from analysis.report.values import Items, Table, Words
from jobs.support.endings import _study
from jobs.support.outcomes import print_comparisons, print_results
from softprior.library.results import Results
from softprior.prompt import Place
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Posterior, load_posterior
from softprior.results.probed import Probed, Removal
from softprior.results.records import Record, StepPoint, load_record, save_record
from softprior.results.sanity import Check
from tests.builders import Finished, with_seeds

BY_NAME = {judged_by.claim.name: judged_by for judged_by in JUDGED}
AT = Place(0)


def twins_with(study: Study, **changes: Any) -> Study:
    """The study with a twin of each trial of seed 0, whose record has what functions make of the trial."""
    twins = {}
    for run in study.runs:
        if run.seed == 0:
            spec = run.record.spec.model_copy(update={"twin": 1e-6})
            new = {name: change(run) for name, change in changes.items()}
            record = run.record.model_copy(update={"id": spec.id, "spec": spec, **new})
            twins[run.id] = replace(run, record=record)
    # What is left beside records is the original's until a test changes it.
    ids = {twin.id: i for i, twin in twins.items()}
    numbers = {n: dict(t) | {i: t[of] for i, of in ids.items() if of in t} for n, t in study.numbers.items()}
    posteriors = dict(study.posteriors) | {i: study.posteriors[of] for i, of in ids.items()}
    return replace(study, twins=twins, numbers=numbers, posteriors=posteriors)


def found(study: Study, name: str) -> tuple[Finding, ...]:
    return judge(study, (BY_NAME[name],))


def nudge(run: Run) -> float:
    """A known difference for each trial."""
    return 0.001 * (1 + int(run.id[:2], 16))


NEEDS: dict[str, dict[str, Any]] = {
    "quality": {"rates": (0.01,)},
    "memory": {"rates": (0.01,)},
    "collapse": {"rates": (0.01,)},
    "speed": {"rates": (0.01,), "later": 0.5},
    "rate": {"slope": 0.5},
    "regularisers": {"rates": (0.01,), "weights": (0.0, 1.0), "pull": -0.8},
    "near-tokens": {"rates": (0.01,), "near": 1.0},
    "forgetting": {"rates": (0.01,)},
    "routing": {"rates": (0.01,), "methods": (PREFIX,)},
    "words": {"words": 2.0},
}


@pytest.mark.parametrize("name", NEEDS)
def test_every_claim_has_the_noise_of_its_own_number_and_is_not_changed_by_twins(name: str) -> None:
    study = simulated(Truth(**{"seeds": 4, **NEEDS[name]}))
    plain, same = found(study, name), found(twins_with(study), name)
    assert {one.noise for one in plain} == {None}
    assert {one.noise for one in same} == {0.0}, "twins that end alike"
    for before, after in zip(plain, same, strict=True):
        assert after.twins
        assert set(after.twins).isdisjoint(run.id for run in study.runs)
        assert replace(after, noise=None, twins=(), sentence=before.sentence) == before
        assert re.search(
            r"; (it|the distance from 0\.5) is above the difference between twins \(0\)", after.sentence
        )


def test_losses_are_measured_against_the_losses_of_twins() -> None:
    study = simulated(Truth(seeds=4, rates=(0.01,), gap=0.02))
    noisy = twins_with(
        study, test=lambda run: run.record.test.model_copy(update={"loss": run.loss + nudge(run)})
    )
    expected = np.sqrt(np.mean([nudge(run) ** 2 for run in study.runs if run.seed == 0]))
    (quality,) = found(noisy, "quality")
    assert quality.noise == pytest.approx(expected)
    assert quality.primary is not None
    known = beside(abs(quality.primary.value), expected)
    assert f"; it is {known} the difference between twins ({expected:.2g})" in quality.sentence
    assert [beside(effect, 0.1) for effect in (0.1, 0.15, 0.2)] == ["not above", "less than twice", "above"]
    (row,) = compare(noisy, "prior")
    assert row.noise == pytest.approx(expected)
    assert row.seeds == 4, "a twin is no seed"
    assert row.difference == pytest.approx(compare(study, "prior")[0].difference)


def test_twins_at_rates_that_are_not_chosen_say_nothing() -> None:
    study = simulated(Truth(seeds=4))
    (cell,) = study.cells()
    chosen = {run.id for side in cell.sides.values() for run in side.runs.values()}
    wild = twins_with(
        study,
        test=lambda run: run.record.test.model_copy(
            update={"loss": run.loss + (0 if run.id in chosen else 9)}
        ),
    )
    assert found(wild, "quality")[0].noise == 0


def test_distances_moved_are_measured_against_those_of_twins() -> None:
    def geometry(run: Run) -> dict[str, Any]:
        return {
            n: p.model_copy(update={"moved": p.moved + nudge(run)}) for n, p in run.record.geometry.items()
        }

    study = twins_with(simulated(Truth(seeds=4, slope=0.5)), geometry=geometry)
    rates = {run.axes["rate"]: run.record.spec.rate for run in study.runs}
    logs = [np.log(rate.value) for rate in rates.values() if rate]
    slopes = []
    for prior in ("isotropic", "fitted"):
        own = [nudge(run) for run in study.runs if run.seed == 0 and run.axes["prior"] == prior]
        slopes.append(np.polyfit(logs, own, 1)[0])  # slopes are linear in the distances
    assert [one.noise for one in found(study, "rate")] == pytest.approx([rms(slopes)] * 2)

    study = twins_with(simulated(Truth(seeds=4, rates=(0.01,), weights=(0.0, 1.0))), geometry=geometry)
    for cell, one in zip(study.cells("regularisers"), found(study, "regularisers"), strict=True):
        without, with_term = (side.runs[0] for side in cell.sides.values())
        assert one.noise == pytest.approx(abs(nudge(with_term) - nudge(without)))

    def ratios(run: Run) -> dict[str, Any]:
        return {
            n: p.model_copy(
                update={"moved_over_reach": p.moved_over_reach * np.exp(nudge(run) * ("value" in n))}
            )
            for n, p in run.record.geometry.items()
        }

    study = twins_with(simulated(Truth(seeds=4, rates=(0.01,), methods=(PREFIX,))), geometry=ratios)
    expected = rms(nudge(run) for run in study.runs if run.seed == 0)
    assert [one.noise for one in found(study, "routing")] == pytest.approx([expected] * 2)


def test_a_twin_that_is_missing_leaves_its_trial_out_too() -> None:
    """Slopes and correlations over fewer trials would differ by more than rounding."""

    def geometry(run: Run) -> dict[str, Any]:
        return {
            n: p.model_copy(update={"moved": p.moved + nudge(run)}) for n, p in run.record.geometry.items()
        }

    study = twins_with(simulated(Truth(seeds=4, slope=0.5, words=2.0)), geometry=geometry)
    lost = {run.id for run in study.runs if run.axes["rate"] == "0.01"}
    study = replace(study, twins={i: twin for i, twin in study.twins.items() if i not in lost})
    logs = np.log([0.02, 0.04])
    slopes = []
    for prior in ("isotropic", "fitted"):
        own = [nudge(run) for i, run in study.twins.items() if run.axes["prior"] == prior]
        slopes.append(
            np.polyfit(
                logs, [nudge(r) for r in study.runs if r.id in study.twins and r.axes["prior"] == prior], 1
            )[0]
        )
        assert len(own) == 2
    assert [one.noise for one in found(study, "rate")] == pytest.approx([rms(slopes)] * 2)
    assert [one.noise for one in found(study, "words")] == [0.0], "projections and losses are the trials'"


def test_along_the_rate_every_rate_has_its_own_twins() -> None:
    def test(run: Run) -> Any:
        apart = {"0.01": 0.1, "0.02": 0.2, "0.04": 0.4}[run.axes["rate"]]
        return run.record.test.model_copy(update={"loss": run.loss + apart})  # type: ignore[union-attr, operator]

    study = twins_with(simulated(Truth(seeds=4)), test=test)
    rows = [row for row in compare(study, "rate") if "fitted" in row.where]
    assert [(row.value, row.reference) for row in rows] == [("0.02", "0.01"), ("0.04", "0.01")]
    assert [row.noise for row in rows] == pytest.approx([rms([0.2, 0.1]), rms([0.4, 0.1])])


def test_times_are_measured_against_those_of_twins() -> None:
    def more_tokens(run: Run) -> tuple[StepPoint, ...]:
        return tuple(replace(point, labels=11) for point in run.record.steps)

    study = twins_with(simulated(Truth(seeds=4, rates=(0.01,), later=0.5)), steps=more_tokens)
    (one,) = found(study, "speed")
    assert one.primary is not None
    # Both priors reach the level at the same steps as their twins, whose steps have a tenth more tokens.
    (cell,) = study.cells()
    firsts = [run for side in cell.sides.values() for run in side.runs.values() if run.seed == 0]
    aim = level(cell)
    assert aim is not None
    steps = [next(s.step for s in run.record.validation if s.loss <= aim) for run in firsts]
    assert one.noise == pytest.approx(rms(map(float, steps)))


def test_places_are_measured_against_those_of_twins() -> None:
    study = twins_with(simulated(Truth(seeds=4, rates=(0.01,), memory=0.8)))
    posteriors = dict(study.posteriors)
    for twin in study.twins.values():
        old = posteriors[twin.id]
        shift = 3.0 if twin.axes["prior"] == "fitted" else 0.0
        final = {place: vectors + shift for place, vectors in old.final.items()}
        posteriors[twin.id] = Posterior({}, old.initial, final, {})
    study = replace(study, posteriors=posteriors)
    (memory,) = found(study, "memory")
    sides = {
        prior: {r.seed: r for r in study.runs if r.axes["prior"] == prior}
        for prior in ("fitted", "isotropic")
    }

    def apart(moment: str, runs: tuple[Run, Run]) -> float:
        return energy_distance(*(getattr(posteriors[run.id], moment)[AT].numpy() for run in runs))

    both = [(sides["fitted"][seed], sides["isotropic"][seed]) for seed in range(4)]
    scale = np.mean([apart("initial", runs) for runs in both])
    twins = (study.twins[both[0][0].id], study.twins[both[0][1].id])
    assert memory.noise == pytest.approx(abs(apart("final", both[0]) - apart("final", twins)) / scale)
    assert "the distance from 0.5 is " in memory.sentence


def test_correlations_are_measured_against_those_of_twins() -> None:
    study = twins_with(simulated(Truth(seeds=4, words=2.0)))
    table = dict(study.numbers["projection"])
    for twin in study.twins.values():
        table[twin.id] += 0.1 * (int(twin.id[:2], 16) % 5)
    study = replace(study, numbers={**study.numbers, "projection": table})
    found_with = []
    for twins in ({}, study.twins):
        points = []
        for prior in ("isotropic", "fitted"):
            runs = [run for run in study.runs if run.seed == 0 and run.axes["prior"] == prior]
            own = np.array([[run.loss, table[twins.get(run.id, run).id]] for run in runs])
            points.append(own - own.mean(0))
        found_with.append(np.corrcoef(np.concatenate(points).T)[0, 1])
    (one,) = found(study, "words")
    assert one.noise == pytest.approx(abs(found_with[0] - found_with[1]))
    assert one.noise
    assert one.noise > 0


@pytest.mark.parametrize("lost", ["projection", "loss"])
def test_a_twin_without_its_number_leaves_its_trial_out_of_the_correlation(lost: str) -> None:
    """Twins that end alike in all that they have: no noise, whichever of them was not probed."""
    study = twins_with(simulated(Truth(seeds=4, words=2.0)))
    gone = next(iter(study.twins))
    twin = study.twins[gone]
    if lost == "projection":
        table = {i: value for i, value in study.numbers["projection"].items() if i != twin.id}
        study = replace(study, numbers={**study.numbers, "projection": table})
    else:
        without = replace(twin, record=twin.record.model_copy(update={"test": None}))
        study = replace(study, twins={**study.twins, gone: without})
    assert [one.noise for one in found(study, "words")] == [0.0]


def test_numbers_beside_records_are_measured_against_those_of_twins() -> None:
    for name, number in (("forgetting", "forgetting"), ("near-tokens", "without_far")):
        study = twins_with(simulated(Truth(seeds=4, rates=(0.01,), near=1.0)))
        table = dict(study.numbers[number])
        for i, twin in study.twins.items():
            table[twin.id] = table[i] + nudge(study.twins[i])
        study = replace(study, numbers={**study.numbers, number: table})
        expected = rms(nudge(twin) for twin in study.twins.values())
        noises = [one.noise for one in found(study, name)]
        assert noises == pytest.approx([expected] * len(noises))
        assert noises


def test_of_several_numbers_the_noise_is_the_largest() -> None:
    study = twins_with(simulated(Truth(seeds=4, rates=(0.01,), near=1.0)))
    tables = {name: dict(study.numbers[name]) for name in ("without_far", "without_random")}
    for twin in study.twins.values():
        tables["without_far"][twin.id] += 0.1
        tables["without_random"][twin.id] -= 0.3
    study = replace(study, numbers={**study.numbers, **tables})
    assert [one.noise for one in found(study, "near-tokens")] == pytest.approx([0.3, 0.3])


def test_probes_of_twins_are_read_beside_those_of_their_trials(
    twinned_study: Finished, tmp_path: Path
) -> None:
    """And are no seeds: the numbers of findings are those of trials alone."""
    copy = with_seeds(twinned_study, tmp_path, 3)
    far: dict[str, float] = {}
    for path in copy.records.iterdir():
        record = load_record(path)
        if record.spec.prior is not None:
            far[record.id] = 4 + int(record.id[:4], 16) / 0xFFFF
            removal = Removal(
                removed=1,
                loss=1,
                near=2,
                far=far[record.id],
                random=3,
                random_draws=(3,),
                near_untrained=5,
                far_untrained=6,
            )
            one = Probed(probe="removal", found=removal, sources="s")
            save_record(path, record.model_copy(update={"probes": (one,)}))
    study = read_studies([str(copy.root)]).study
    assert study.numbers["without_far"] == far
    findings = found(study, "near-tokens")
    expected = rms(far[i] - far[twin.id] for i, twin in study.twins.items())
    assert [one.noise for one in findings] == pytest.approx([expected] * 2)
    for one, prior in zip(findings, ("isotropic", "fitted"), strict=True):
        own = [far[run.id] - 2 for run in study.runs if run.axes["prior"] == prior]
        first = next(two for two in one.comparisons if two.what == "far - near")
        assert (first.seeds, first.value) == (3, pytest.approx(np.mean(own)))


@pytest.fixture(scope="module")
def folder(twinned_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Four seeds of two priors on `tiny`, and the twins of the first."""
    return with_seeds(twinned_study, tmp_path_factory.mktemp("four"), 4)


@pytest.fixture(scope="module")
def without(finished_study: Finished, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """The same without twins."""
    return with_seeds(finished_study, tmp_path_factory.mktemp("without"), 4)


def test_a_study_on_disk_says_the_same_with_twins_and_without(
    folder: StudyFolder, without: StudyFolder
) -> None:
    both, plain = (read_studies([str(one.root)]).study for one in (folder, without))
    assert [run.id for run in both.runs] == [run.id for run in plain.runs]
    assert len(both.twins) == 2
    assert {twin.record.spec.original for twin in both.twins.values()} == set(both.twins)
    assert overall(both) == overall(plain)
    for one, other in zip(judge(both), judge(plain), strict=True):
        plain = [replace(own, noise=None, twins=(), sentence="") for own in (one, other)]
        assert plain[0] == plain[1]
    apart = [run.loss - both.twins[run.id].loss for run in both.runs if run.id in both.twins]
    (quality,) = found(both, "quality")
    assert quality.noise == pytest.approx(np.sqrt(np.mean(np.square(apart))))


def test_what_is_left_beside_records_is_read_of_twins_too(twinned_study: Finished) -> None:
    folder, reading = twinned_study.folder, read(twinned_study.folder.root)
    twins = [one.id for one in twinned_study.plan.trials if one.twin]
    assert set(reading.ended) == set(twinned_study.records)
    assert set(reading.study.posteriors) == {i for i, r in reading.ended.items() if r.spec.training}
    for twin in twins:
        known = load_posterior(folder.posterior(twin)).final[AT]
        assert torch.equal(reading.study.posteriors[twin].final[AT], known)
        assert len(reading.rows[twin]) == 1
    assert not set(twins) & set(reading.study.examples), "which are of seeds"
    shares = collapse.Cluster(*collapse._halves(reading.study.vocabulary)).shares
    apart: dict[str, list[float]] = {}
    for run in reading.study.runs:
        own, other = (
            shares(load_posterior(folder.posterior(i)).final[AT].double().numpy())
            for i in (run.id, reading.study.twins[run.id].id)
        )
        for metric in own:
            apart.setdefault(metric, []).append(own[metric] - other[metric])
    noise = max(rms(values) or 0.0 for values in apart.values())
    assert [one.noise for one in found(reading.study, "collapse")] == [noise] * 2
    for twin in twins:
        assert (record := reading.ended[twin]).spec.original in reading.records
        assert reading.results[0].labels[twin] == reading.labels[twin]
        assert record.id == record.spec.id


def test_records_of_twins_are_no_runs_whoever_hands_them_over(twinned_study: Finished) -> None:
    records = list(twinned_study.records.values())
    runs, _ = runs_of(records)
    assert [run.record.spec.twin for run in runs] == [None, None]
    assert set(repeats_of(records, runs, "twin")) == {run.id for run in runs}
    lost = [record for record in records if record.spec.twin or record.spec.prior is None]
    assert repeats_of(lost, runs_of(lost)[0], "twin") == {}, "a twin without its original is in no pair"


def test_a_twin_with_a_fault_is_no_yardstick(twinned_study: Finished) -> None:
    fault = Check(name="shifted_labels", number=0.0, verdict="fault")
    records = [
        record.model_copy(update={"sanity": (fault,)}) if record.spec.twin else record
        for record in twinned_study.records.values()
    ]
    assert repeats_of(records, runs_of(records)[0], "twin") == {}


def test_figures_leave_twins_out(finished_study: Finished, twinned_study: Finished) -> None:
    plain, both = (read(one.folder.root) for one in (finished_study, twinned_study))
    assert list(both.records) == list(plain.records)
    assert both.study.cells() == plain.study.cells()
    assert [losses_of(cell) for cell in both.study.cells()] == [losses_of(c) for c in plain.study.cells()]
    assert looks_of(both) == looks_of(plain)


def test_the_report_lists_twins_and_says_how_far_they_end_apart(twinned_study: Finished) -> None:
    reading = read(twinned_study.folder.root)
    assert not reading.missing
    trials, told = listed(reading), answer(reading, judge(reading.study))
    twins = {one.id: one.original for one in twinned_study.plan.trials if one.twin}
    at = trials.columns.index("repeat")
    shown = {row[0].trials[0]: row[at] for row in trials.rows}
    assert set(shown) == set(twinned_study.records)
    assert {trial: cell.trials[0] for trial, cell in shown.items() if cell.text == "twin"} == twins
    assert told[-1].startswith("5 of 5 trials finished")
    assert "(one seed)" in told[0]
    blocks = checks.section(reading).blocks
    (table,) = [b for b in blocks if isinstance(b, Table) and b.caption.startswith("Twins: ")]
    (row,) = table.rows
    pairs = reading.results[0].pairs.apart
    assert (row[0].text, row[1].text) == ("arithmetic · soft", "2")
    assert row[2].order == pytest.approx(pairs.max())
    assert row[3].order == pytest.approx(pairs.median())
    assert any(isinstance(b, Items) and "sanity: 5 of 5 trials" in " ".join(b.texts).lower() for b in blocks)
    worked = costs.section(reading).blocks[0]
    assert isinstance(worked, Words)
    assert worked.text.startswith("5 trials worked for ")


def test_settings_are_compared_without_what_depends_on_the_order_of_trials(finished_study: Finished) -> None:
    def timed(record: Record, seconds: float, **phases: float) -> Record:
        assert record.cost is not None
        cost = record.cost.model_copy(update={"seconds": {"training": 2.0, **phases}})
        return record.model_copy(update={"cost": cost, "environment": {"seconds": seconds}})

    record = next(iter(finished_study.records.values()))
    both = [timed(record, 10.0, start=3.0), timed(record, 7.0, waiting=9.0)]
    rows = [dict(zip(costs.COLUMNS, costs._row("", [one]), strict=True)) for one in both]
    assert [row["seconds without the start"].text for row in rows] == ["7.0", "7.0"]
    assert [row["losses of the start (seconds)"].text for row in rows] == ["3.0", ""]
    assert [row["seconds by phase"].text for row in rows] == ["training 2.0"] * 2


def test_the_end_of_a_study_shows_twins_as_such_and_one_line(
    twinned_study: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results(twinned_study.folder.root)
    print_results(Console(width=200, markup=False), results)
    said = capsys.readouterr().out
    assert len(re.findall(r" twin ", said)) == 2, "two cells in the column `repeat`"
    apart = results.pairs.apart
    assert (
        f"twins: 2 pairs, test losses apart by at most {apart.max():.2g} nats (median {apart.median():.2g})"
        in said
    )


def test_the_end_of_a_study_hands_twins_to_its_comparisons(
    folder: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    _study(Console(width=80, markup=False), Results(folder.root))
    said = capsys.readouterr().out
    compared = said[said.index("twins: 2 pairs") : said.index("results  ")].partition("\n")[2]
    assert "twins" in compared
    assert "; 4 seeds;" in compared, "a twin is no seed"


def test_comparisons_at_the_end_have_the_noise_of_twins(
    folder: StudyFolder, without: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for one in (folder, without):
        records = [load_record(path) for path in sorted(one.records.glob("*.json"))]
        print_comparisons(Console(width=80, markup=False), records, one.root)
        said.append(capsys.readouterr().out)
    assert "twins" in said[0]
    assert "twins" not in said[1]
    assert max(map(len, said[0].splitlines())) <= 80
    for text in said:
        assert "; 4 seeds" in text
        assert re.search(r"^isotropic .*\+", text, re.MULTILINE)
