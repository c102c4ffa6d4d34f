"""Why seeds differ: known components come back, and reordered trials are never seeds."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float
from rich.console import Console

from analysis.figures.losses import losses_of
from analysis.findings.judging import judge
from analysis.findings.reading import read, read_studies
from analysis.findings.simulated import Truth, simulated
from analysis.findings.study import Run, Study, repeats_of, runs_of
from analysis.inference.seeds import Component, split, variances
from analysis.inference.values import Interval
from analysis.report import checks
from analysis.report.spread import spread_of
from analysis.report.trials import listed
from analysis.report.values import Table, Words
from analysis.spread import (
    ALL,
    HALF_PRECISION,
    NO_TWINS,
    NOT_TOLD_APART,
    TOGETHER,
    deviation,
    in_words,
    spreads,
)
from jobs.support.outcomes import print_comparisons, print_results
from softprior.inputs.entries import Entry
from softprior.library.results import Results
from softprior.seeding import numpy_generator
from tests.builders import Finished, with_seeds

DRAW, ORDER, ROUNDING = 0.3, 0.2, 0.05
"""Known standard deviations."""


def drawn(
    studies: int, settings: int, seeds: int, pairs: int, draw: float = DRAW
) -> tuple[Float[np.ndarray, "M K S"], Float[np.ndarray, "M K S"]]:
    """Results and their reordered repetitions; settings share half of what a seed's draw does to them."""
    generator = numpy_generator(0, "spread", settings, seeds, pairs)

    def normal(deviation: float, *shape: int) -> np.ndarray:
        return generator.normal(0, deviation, shape) if deviation else np.zeros(shape)

    own = normal(draw * 0.5**0.5, studies, settings, seeds) + normal(draw * 0.5**0.5, studies, 1, seeds)
    both = [
        own + normal(ORDER, studies, settings, seeds) + normal(ROUNDING, studies, settings, seeds)
        for _ in range(2)
    ]
    both[1][..., pairs:] = np.nan
    return both[0], both[1]


@pytest.mark.parametrize(("seeds", "pairs"), [(9, 9), (9, 3), (3, 3), (4, 1)])
def test_known_components_come_back_without_bias(seeds: int, pairs: int) -> None:
    """Over 600 studies, within three standard errors of the mean over them."""
    results, reordered = drawn(600, 2, seeds, pairs)
    between, within = variances(results, reordered)
    truths = {"draw": DRAW**2, "order": ORDER**2, "total": DRAW**2 + ORDER**2 + ROUNDING**2}
    found = {"draw": between - within, "order": within - ROUNDING**2, "total": between}
    for part, truth in truths.items():
        error = found[part].std() / len(results) ** 0.5
        assert abs(found[part].mean() - truth) < 3 * error, part
        assert error < 0.1 * truth + 0.003, "so that a bias would show"


@pytest.mark.parametrize("draw", [DRAW, 0.0])
def test_intervals_contain_known_components(draw: float) -> None:
    """In 200 studies of two settings that share draws; bounds are three binomial errors from 95%."""
    results, reordered = drawn(200, 2, 7, 7, draw)
    truths = {"total": draw**2 + ORDER**2 + ROUNDING**2, "draw": draw**2, "order": ORDER**2}
    inside = dict.fromkeys(truths, 0)
    for own, other in zip(results, reordered, strict=True):
        found = split(own, other, ROUNDING**2)
        assert found is not None
        for part, truth in truths.items():
            interval = getattr(found, part).interval
            assert 0 <= interval.low <= getattr(found, part).value <= interval.high
            inside[part] += interval.low <= truth <= interval.high
    error = (0.95 * 0.05 / 200) ** 0.5
    for part, count in inside.items():
        assert 0.95 - 3 * error <= count / 200 <= 0.95 + 3 * error, part


def test_the_parts_are_those_of_the_formulas_and_sum_to_the_whole() -> None:
    results = np.array([[1.0, 2.0, 4.0], [5.0, 5.5, 6.5]])
    reordered = np.array([[1.5, 1.8, np.nan], [5.2, np.nan, np.nan]])
    found = split(results, reordered, rounding=0.001)
    assert found is not None
    total = (np.var([1, 2, 4], ddof=1) + np.var([5, 5.5, 6.5], ddof=1)) / 2
    within = ((0.5**2 + 0.2**2) / 2 / 2 + 0.2**2 / 2) / 2
    assert found.total.estimate == pytest.approx(total)
    assert found.draw.estimate == pytest.approx(total - within)
    assert found.order.estimate == pytest.approx(within - 0.001)
    assert found.draw.estimate + found.order.estimate + 0.001 == pytest.approx(found.total.estimate)
    assert (found.seeds, found.pairs, found.rounding) == (3, 3, 0.001)
    whole = split(results[:1], reordered[:1])
    assert whole is not None
    assert whole.order.estimate == pytest.approx((0.5**2 + 0.2**2) / 4)
    assert whole.rounding is None


def test_the_interval_of_a_variance_is_the_jackknife_of_its_logarithm() -> None:
    values = np.array([[0.1, 0.4, 0.35, 0.9]])
    found = split(values, values + np.array([[0.1, 0.3, -0.2, 0.1]]))
    assert found is not None
    left = np.log([np.var(np.delete(values, i), ddof=1) for i in range(4)])
    error = np.sqrt(3 / 4 * np.sum((left - left.mean()) ** 2))
    factor = np.exp(3.182446305284263 * error)  # of t with three degrees of freedom
    variance = np.var(values, ddof=1)
    assert found.total.interval.high == pytest.approx(variance * factor)
    assert found.total.interval.low == pytest.approx(variance / factor)


def test_draws_that_differ_by_less_than_orders_are_zero_and_that_is_said() -> None:
    results = np.array([[1.0, 1.01, 0.99, 1.0]])
    moves = np.array([[0.3, -0.2, 0.25, 0.3]])
    found = split(results, results + moves)
    assert found is not None
    assert found.draw.estimate < 0
    assert found.order.value == pytest.approx(np.mean(moves**2) / 2), "unchanged"
    assert found.draw.value == found.draw.interval.low == 0
    assert deviation(found.draw).startswith("0 [0, ")
    assert deviation(found.draw).endswith("]*")


@pytest.mark.parametrize("seeds", [6, 8])
def test_intervals_contain_two_valued_draws(seeds: int) -> None:
    """As of trials that solve a task or stop half way; the jackknife alone contains them less often."""
    generator = numpy_generator(0, "two-valued", seeds)
    inside = 0
    for _ in range(300):
        own = 0.3 * generator.choice([-1.0, 1.0], (1, seeds))
        found = split(*(own + generator.normal(0, 0.02, (1, seeds)) for _ in range(2)))
        assert found is not None
        inside += found.total.interval.low <= 0.3**2 + 0.02**2 <= found.total.interval.high
    assert inside / 300 > 0.95


def test_seeds_of_another_setting_are_no_more_seeds() -> None:
    """Two settings of three other seeds each: three seeds, and so no interval of the whole."""
    numbers = np.array([1.0, 2.0, 4.0])
    results = np.full((2, 6), np.nan)
    results[0, :3], results[1, 3:] = numbers, numbers + 0.5
    moves = np.array([[0.1, 0.3, np.nan, np.nan, np.nan, -0.2], [0.1, 0.3, np.nan, -0.1, 0.2, np.nan]])
    found = split(results, results + moves)
    assert found is not None
    assert (found.seeds, found.pairs) == (3, 4)
    assert [np.isfinite(own.interval.high) for own in (found.total, found.draw, found.order)] == [0, 0, 0]


def test_too_few_seeds_give_numbers_without_intervals_or_nothing() -> None:
    three, four = np.array([[1.0, 2.0, 4.0]]), np.array([[1.0, 2.0, 4.0, 5.0]])
    alone = split(three, three + np.array([[0.1, 0.3, -0.1]]))
    assert alone is not None
    assert [np.isfinite(own.interval.high) for own in (alone.total, alone.draw, alone.order)] == [0, 0, 1]
    pairs = split(four, np.array([[1.1, 2.3, np.nan, np.nan]]))
    assert pairs is not None
    assert [np.isfinite(own.interval.high) for own in (pairs.total, pairs.draw, pairs.order)] == [1, 0, 0]
    assert split(three, np.full((1, 3), np.nan)) is None
    assert split(three[:, :1], three[:, :1]) is None
    known = split(np.concatenate([three, three]), np.stack([three[0] + 0.1, np.full(3, np.nan)]))
    assert known is not None
    assert (known.pairs, known.total.estimate) == (3, pytest.approx(np.var(three, ddof=1))), (
        "the others are out"
    )
    nowhere = Component(estimate=0.04, interval=Interval(low=np.nan, high=np.nan))
    assert deviation(nowhere) == "0.2"
    whole, part = (Component(estimate=0.04, interval=Interval(low=0.01, high=high)) for high in (0.16, 49.0))
    assert deviation(whole, whole) == "0.2 [0.1, 0.4]"
    assert deviation(part, whole) == deviation(part, nowhere) == "0.2 [0.1, 7]+"


def test_every_pair_alike_has_no_interval_instead_of_one_of_no_width() -> None:
    results = np.array([[1.0, 2.0, 4.0, 3.0]])
    same = split(results, results)
    assert same is not None
    assert same.order.estimate == 0
    assert np.isnan(same.order.interval.low)


def reordered_with(study: Study, moves: dict[str, float]) -> Study:
    """A reordered trial of seeds 0 and 1, whose loss differs by the prior's move."""

    def again(run: Run) -> Run:
        spec = run.record.spec.model_copy(update={"reordered": 1})
        assert run.record.test is not None
        test = run.record.test.model_copy(update={"loss": run.record.test.loss + moves[run.axes["prior"]]})
        return replace(run, record=run.record.model_copy(update={"id": spec.id, "spec": spec, "test": test}))

    return replace(study, reordered={run.id: again(run) for run in study.runs if run.seed < 2})


def test_spreads_are_by_prior_at_the_chosen_rate_and_over_all_priors() -> None:
    plain = simulated(Truth(seeds=5))
    assert spreads(plain) == []
    study = reordered_with(plain, {"isotropic": 0.02, "fitted": 0.04})
    found = spreads(study)
    assert [one.prior for one in found] == ["isotropic", "fitted", ALL]
    (cell,) = study.cells()
    totals, orders = [], [0.02**2 / 2, 0.04**2 / 2]
    for side, one, order in zip(cell.sides.values(), found, orders, strict=False):
        losses = [run.loss for run in side.runs.values()]
        totals.append(np.var(np.array(losses, dtype=float), ddof=1))
        assert one.parts.total.estimate == pytest.approx(totals[-1])
        assert one.parts.order.estimate == pytest.approx(order)
        assert one.trials == tuple(run.id for run in side.runs.values())
        firsts = [run.id for seed, run in side.runs.items() if seed < 2]
        assert set(one.reordered) == {*firsts, *(study.reordered[i].id for i in firsts)}
        assert one.twins == ()
        assert (one.parts.seeds, one.parts.pairs, one.parts.rounding) == (5, 2, None)
    assert found[2].parts.total.estimate == pytest.approx(np.mean(totals))
    assert found[2].parts.order.estimate == pytest.approx(np.mean(orders))
    assert judge(study) == judge(plain), "no claim has them for seeds"
    first, line, *caveats = in_words(found)
    assert caveats == [f"  {TOGETHER}", f"  {NO_TWINS}"]
    assert first.startswith("spread of seeds: standard deviations of test losses in nats")
    assert re.fullmatch(
        r"  arithmetic · soft · all priors: \S+ \[.*\]; prior draw .*, data order 0\.022"
        r" \(5 seeds, 4 pairs\)",
        line,
    )
    assert in_words([]) == []


def test_rounding_is_taken_out_of_the_order() -> None:
    study = reordered_with(simulated(Truth(seeds=4, rates=(0.01,))), {"isotropic": 0.02, "fitted": 0.02})
    twins = {}
    for i, one in study.reordered.items():
        test = one.record.test
        assert test is not None
        nearer = test.model_copy(update={"loss": test.loss - 0.02 + 0.004})
        twins[i] = replace(one, record=one.record.model_copy(update={"id": f"t{i}", "test": nearer}))
    (first, *_) = spreads(replace(study, twins=twins))
    assert first.parts.rounding == pytest.approx(0.004**2 / 2)
    assert first.parts.order.estimate == pytest.approx(0.02**2 / 2 - 0.004**2 / 2)
    assert first.twins == tuple(one.record.id for one in twins.values())
    (without, *_) = spreads(study)
    assert without.parts.draw.estimate == first.parts.draw.estimate, "which depends on no twin"


def test_twins_of_a_prior_without_pairs_are_in_no_mean() -> None:
    names = (Entry(name="isotropic", params={"scale": 0.02}), Entry(name="fitted"), Entry(name="vocabulary"))
    plain = simulated(Truth(seeds=4, rates=(0.01,), priors=names))
    every = reordered_with(plain, dict.fromkeys(("isotropic", "fitted", "vocabulary"), 0.02)).reordered
    last = {run.id for run in plain.runs if run.axes["prior"] == "vocabulary"}
    twins = {}
    for run in plain.runs:
        test = run.record.test
        assert test is not None
        moved = test.model_copy(update={"loss": test.loss + (0.5 if run.id in last else 0.004)})
        twins[run.id] = replace(run, record=run.record.model_copy(update={"id": f"t{run.id}", "test": moved}))
    some = {i: one for i, one in every.items() if i not in last}
    found = spreads(replace(plain, reordered=some, twins=twins))
    assert [one.prior for one in found] == ["isotropic", "fitted", ALL]
    assert found[-1].parts.rounding == pytest.approx(0.004**2 / 2)
    assert set(found[-1].twins).isdisjoint(f"t{i}" for i in last)


def test_a_study_on_disk_says_the_same_with_reordered_trials_and_without(
    twinned_study: Finished, repeated_study: Finished
) -> None:
    plain, more = (read_studies([str(one.folder.root)]) for one in (twinned_study, repeated_study))
    assert more.study.runs == plain.study.runs
    assert more.study.twins == plain.study.twins
    assert [losses_of(cell) for cell in more.study.cells()] == [losses_of(c) for c in plain.study.cells()]
    assert judge(more.study) == judge(plain.study)
    assert list(more.records) == list(plain.records)
    known = {one.id: one.original for one in repeated_study.plan.trials if one.repeat == "reordered"}
    assert {one.id: i for i, one in more.study.reordered.items()} == known
    assert len(more.ended) == len(plain.ended) + 2
    records = list(repeated_study.records.values())
    runs, _ = runs_of(records)
    assert {run.record.spec.repeat for run in runs} == {None}
    for kind in ("twin", "reordered"):
        found = repeats_of(records, runs, kind)
        assert {run.record.spec.repeat for run in found.values()} == {kind}


def test_the_report_shows_what_seeds_differ_in(
    tmp_path_factory: pytest.TempPathFactory, repeated_study: Finished, twinned_study: Finished
) -> None:
    one_seed = checks.section(read(repeated_study.folder.root)).blocks
    assert not any(isinstance(b, Table) and b.caption.startswith("Spread of seeds") for b in one_seed)
    folder = with_seeds(repeated_study, tmp_path_factory.mktemp("four"), 4)
    reading = read(folder.root)
    (table,) = (
        block
        for block in checks.section(reading).blocks
        if isinstance(block, Table) and block.caption.startswith("Spread of seeds")
    )
    assert f"{TOGETHER} {HALF_PRECISION}" in table.caption
    found = spreads(reading.study)
    assert [row[0].text for row in table.rows] == [f"{one.where} · {one.prior}" for one in found]
    for row, one in zip(table.rows, found, strict=True):
        assert [cell.text for cell in row[1:3]] == ["4", str(one.parts.pairs)]
        parts = (one.parts.total, one.parts.draw, one.parts.order)
        assert [cell.text for cell in row[3:6]] == [deviation(part, one.parts.total) for part in parts]
        assert row[6].order == pytest.approx(one.parts.rounding**0.5)
        assert row[1].trials == one.trials
        assert row[2].trials == one.reordered
        assert row[6].trials == one.twins != ()
        for at, cell in enumerate(row[1:], 1):
            assert cell.trials, f"{table.columns[at]} comes from nowhere"
            assert set(cell.trials) <= set(reading.ended)
    at = (shown := listed(reading)).columns.index("repeat")
    assert sorted(row[at].text for row in shown.rows if row[at].text) == ["reordered"] * 2 + ["twin"] * 2
    without = with_seeds(twinned_study, tmp_path_factory.mktemp("without"), 4)
    told = [block.text for block in checks.section(read(without.root)).blocks if isinstance(block, Words)]
    assert any(NOT_TOLD_APART in text.lower() and "evaluation.reordered" in text for text in told)
    reading = read(without.root)
    for changes, said in (
        ({"evaluation": {"reordered": 2}, "seeds": [0, 1, 2, 3]}, "; 4 reordered trials have not finished."),
        ({"search": {"trials": 3}}, "seeds differ in both."),
    ):
        spec = {**reading.header["spec"], **changes}
        first, *others = reading.results
        with_spec = copy.copy(first)
        with_spec.__dict__["study"] = {**reading.header, "spec": spec}
        (words,) = spread_of(replace(reading, results=(with_spec, *others)))
        assert isinstance(words, Words)
        assert words.text.endswith(said)


def test_the_end_of_a_study_says_how_far_orders_lead_apart(
    tmp_path: Path, repeated_study: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_seeds(repeated_study, tmp_path, 4)
    results = Results(folder.root)
    print_results(Console(width=200, markup=False), results)
    said = capsys.readouterr().out
    apart = results.reordered_pairs.apart
    most = f"at most {apart.max():.2g} nats (median {apart.median():.2g})"
    assert f"reordered: 2 pairs, test losses apart by {most}" in said
    assert len(re.findall(r" reordered ", said)) == 2, "two cells in the column `repeat`"
    print_comparisons(Console(width=200, markup=False), results.ended.values(), folder.root)
    for line in in_words(spreads(read(folder.root).study)):
        assert line in (said := said + capsys.readouterr().out)
