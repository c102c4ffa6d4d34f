"""Tests, intervals and powers against scipy, statsmodels, lifelines, rliable and hand-computed examples."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from analysis.findings.evidence import Evidence
from analysis.findings.rules import Differ, Direction, Equal
from analysis.inference import (
    across,
    components,
    energy,
    equality,
    intervals,
    jackknife,
    multiple,
    permutation,
    power,
    survival,
)
from analysis.inference.values import EQUIVALENCE, LOSS, SHARE, Interval, PerExample
from benchmarks.findings_rules import overall as overall_covered
from softprior.seeding import numpy_generator

NINE = np.random.default_rng(1).normal(0.3, 1, 9)


@pytest.mark.parametrize("side", ["both", "greater", "less"])
@pytest.mark.parametrize("seeds", [2, 5, 9])
def test_sign_flips_are_scipys_permutation_test(seeds, side):
    own = NINE[:seeds]
    alternative = {"both": "two-sided"}.get(side, side)
    found = stats.permutation_test(
        (own,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=alternative
    )
    assert permutation.sign_flip(own, side) == pytest.approx(found.pvalue)


def test_thousands_of_seeds_are_flipped_without_gigabytes():
    """A sign takes a byte, and sums of blocks of them are those of the whole product."""
    count = 2 * permutation.BLOCK + 88
    signs = permutation.flips(count)
    assert signs.nbytes == count * (1 + permutation.DRAWS)
    drawn = numpy_generator(0, "sign flips", count).integers(0, 2, (count, 1 + permutation.DRAWS))
    assert (signs[:, 1:] == 1 - 2 * drawn[:, 1:]).all()
    assert (signs[:, 0] == 1).all()
    differences = np.random.default_rng(0).normal(0.05, 1, (3, count))
    sums = differences @ signs.astype(float)
    share = (np.abs(sums) >= np.abs(sums[:, :1])).mean(-1)
    assert permutation.sign_flip(differences) == pytest.approx(share, abs=1e-4)
    assert len(set(share)) == 3


def test_the_least_p_is_that_of_differences_of_one_sign():
    for seeds in (1, 5, 6, 9, 14):
        assert permutation.sign_flip(np.ones(seeds)) == pytest.approx(permutation.least_p(seeds))
    assert permutation.least_p(5) == 0.0625
    drawn = permutation.sign_flip(np.ones(40))
    assert drawn == pytest.approx(permutation.least_p(40)) == pytest.approx(1e-4)


def test_drawn_flips_give_nearly_the_exact_p():
    own = np.random.default_rng(0).normal(0.4, 1, 16)
    signs = 1 - 2 * ((np.arange(2**16) >> np.arange(16)[:, None]) & 1)
    exact = (np.abs(own @ signs) >= abs(own.sum()) - 1e-12).mean()
    assert permutation.sign_flip(own) == pytest.approx(exact, abs=4 * math.sqrt(exact / permutation.DRAWS))


def test_rounding_does_not_break_ties():
    own = np.array([0.1, 0.2, 0.3, -0.1, -0.2, -0.3])  # sums to 5e-17: every flip reaches zero
    assert permutation.sign_flip(own) == 1.0


def test_beyond_a_margin():
    """Six seeds all beyond: each one-sided test gives 1 / 64 at best, doubled."""
    assert permutation.beyond(np.full(6, 0.5), 0.4) == pytest.approx(2 / 64)
    assert permutation.beyond(np.full(6, -0.5), 0.4) == pytest.approx(2 / 64)
    assert permutation.beyond(np.full(6, 0.3), 0.4) == 1.0
    assert permutation.beyond(NINE, 0.0) == pytest.approx(permutation.sign_flip(NINE), abs=1 / 2**9)


def test_intervals_over_seeds_are_students():
    found = intervals.over_seeds(NINE)
    expected = stats.ttest_1samp(NINE, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert intervals.over_seeds(NINE[:1]).missing == "one seed"


def test_intervals_stay_inside_what_a_number_can_be():
    """Seeds at 0.2, 0.5 and 0.8: Student's interval goes from -0.25 to 1.25."""
    few = np.array([0.2, 0.5, 0.8])
    assert intervals.over_seeds(few).low == pytest.approx(0.5 - stats.t.ppf(0.975, 2) * 0.3 / 3**0.5)
    assert intervals.over_seeds(few).low == pytest.approx(-0.245, abs=1e-3)
    found = intervals.over_seeds(few, possible=SHARE)
    assert (found.low, found.high, found.missing) == (0, 1, "")
    assert intervals.over_seeds(few, possible=LOSS).low == 0
    assert intervals.over_seeds(few, possible=LOSS).high == intervals.over_seeds(few).high


def test_two_seeds_have_no_interval():
    assert intervals.over_seeds(np.array([0.375, 0.625])).missing == intervals.TWO_SEEDS
    assert jackknife.student(jackknife.Estimate(0.5, 0.1, 2)).missing == intervals.TWO_SEEDS
    one = jackknife.jackknife(lambda rows: np.ones(rows.shape[:-1]), 1)
    assert jackknife.student(one).missing == "one seed"
    groups = PerExample(np.array([[1.0, 2.0], [3.0, 5.0]]), np.ones(2), ("a", "b"), (0, 1))
    assert intervals.over_seeds_and_groups(groups).missing == intervals.TWO_SEEDS


def test_an_interval_for_other_examples_too_contains_that_for_other_seeds():
    """Satterthwaite's degrees of freedom alone would make many of these narrower."""
    generator = np.random.default_rng(0)
    ends = []
    for _ in range(100):
        seed, example, rest = (generator.normal(size=size) for size in ((3, 1), 40, (3, 40)))
        table = 0.3 * seed + example + rest
        examples = PerExample(table, np.ones(40), tuple(map(str, range(40))), (0, 1, 2))
        both, seeds = intervals.over_seeds_and_groups(examples), intervals.over_seeds(table.mean(1))
        assert both.low <= seeds.low + 1e-12
        assert both.high >= seeds.high - 1e-12
        ends.append(both.low == pytest.approx(seeds.low))
    assert 10 < sum(ends) < 90


def test_equal_seeds_have_no_interval():
    found = intervals.over_seeds(np.array([0.5, 0.5]), possible=SHARE)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.missing == "equal in all 2 seeds"
    assert intervals.over_seeds(np.array([0.1 + 0.2, 0.3])).missing, "equal up to rounding"
    best = jackknife.jackknife(lambda rows: np.ones(rows.shape[:-1]), 2)
    assert jackknife.student(best).missing == "the same whichever seed is left out"


@pytest.mark.parametrize(("seeds", "decided"), [(2, "undecided"), (6, "supported")])
def test_equal_seeds_are_decided_by_the_exact_test_alone(seeds, decided):
    evidence = Evidence(where="", numbers={"one": np.full(seeds, 0.3)}, margin=0.4)
    for rule in (Direction(), Differ(), Equal()):
        adjusted = {test.what: test.p for test in rule.tests(evidence)}
        assert rule.decide(evidence, adjusted).verdict == decided


@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_equality_is_statsmodels_test_and_its_interval(margin):
    p = equality.tost(NINE, margin)
    assert p == pytest.approx(DescrStatsW(NINE).ttost_mean(-margin, margin)[0])
    interval = intervals.over_seeds(NINE, EQUIVALENCE)
    assert (p <= 0.05) == (interval.above(-margin) and interval.below(margin))


def test_equality_of_differences_without_spread():
    """A t-test would say p = 0 of two equal seeds; one-sided sign flips give 1 / 2^n."""
    assert equality.tost(np.zeros(2), 0.1) == 1 / 4
    assert equality.tost(np.array([0.1 + 0.2, 0.3, 0.3, 0.3, 0.3]), 0.4) == 1 / 32, "equal up to rounding"
    assert equality.tost(np.full(5, 0.2), 0.1) == 1
    assert equality.tost(np.zeros(5), 0.0) == 1
    assert power.more_seeds_for_equality(0.0, 0.0, 2, 0.1) == 3
    assert power.detectable(0.0, 9) is None
    assert equality.tost(np.zeros(1), 0.1) == 1


def test_holm_by_hand_and_as_statsmodels_has_it():
    assert multiple.holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert multiple.holm(np.array([])).tolist() == []
    for drawn in (many := np.random.default_rng(3).uniform(0, 0.2, (4, 7)).round(2)):
        assert multiple.holm(drawn) == pytest.approx(multipletests(drawn, method="holm")[1], rel=1e-12)
    assert multiple.holm(many) == pytest.approx(np.array([multiple.holm(own) for own in many]))


@pytest.mark.parametrize("level", [0.05, 0.005])
def test_power_of_t_is_statsmodels_and_of_many_flips_the_same(level):
    for seeds in (5, 12):
        expected = TTestPower().power(0.9, seeds, level)
        assert power.t_power(1.8, 2.0, seeds, level) == pytest.approx(expected, abs=1e-6)
    found = power.detectable(2.0, 40, level)
    assert found == pytest.approx(2.0 * TTestPower().solve_power(nobs=40, alpha=level, power=0.8), rel=1e-6)
    more = power.more_seeds(0.8, 2.0, 5, level)
    needed = TTestPower().solve_power(effect_size=0.4, alpha=level, power=0.8)
    assert more == math.ceil(needed) - 5
    # Where flips cease to be simulated, their power is within 0.02 of it.
    effect = power.detectable(1.0, power.SIMULATED, level)
    assert TTestPower().power(effect, power.SIMULATED, level) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(
    ("seeds", "tests", "of_t"), [(9, 12, 0.67), (9, 8, 0.58), (9, 1, 0.78), (6, 1, 0.63), (12, 24, None)]
)
def test_the_detectable_effect_is_found_by_the_sign_flip_test_in_80_of_100_studies(seeds, tests, of_t):
    """4,000 studies give the share to 0.013; the effect of a t-test's formula is found in far fewer."""
    level = 0.05 / tests
    drawn = np.random.default_rng(7).normal(0, 1, (4000 if seeds < 10 else 1500, seeds))

    def share(effect):
        return float((permutation.sign_flip(drawn + effect) <= level).mean())

    effect = power.detectable(2.0, seeds, level)
    assert share(effect / 2.0) == pytest.approx(0.8, abs=0.03)
    assert power.power(effect, 2.0, seeds, level) == pytest.approx(0.8, abs=0.001)
    if of_t is not None:
        assert share(TTestPower().solve_power(nobs=seeds, alpha=level, power=0.8)) == pytest.approx(
            of_t, abs=0.03
        )


def test_the_power_of_flips_is_counted_study_by_study():
    """The literal form: the test of every simulated study a little above and below its own effect."""
    for seeds, level in ((7, 0.05), (15, 0.01)):
        needed = power.needed(seeds, level)[:40]
        drawn = power.simulated_studies(seeds)[:40] + needed[:, None]
        assert (permutation.sign_flip(drawn + 1e-4) <= level).all()
        assert (permutation.sign_flip(drawn - 1e-4) > level).all()


def test_seeds_to_add_are_those_of_the_sign_flip_test():
    """Ten would do by the formula of a t-test, at 0.05 / 12 and two spreads, but flips find it in too few."""
    more = power.more_seeds(1.9, 1.0, 5, 0.05 / 12)
    assert more == 5
    drawn = np.random.default_rng(8).normal(1.9, 1, (4000, 10))
    assert (permutation.sign_flip(drawn) <= 0.05 / 12).mean() > 0.8
    assert (permutation.sign_flip(drawn[:, 1:]) <= 0.05 / 12).mean() < 0.79
    assert power.t_power(1.9, 1.0, 9, 0.05 / 12) > 0.8


def test_seeds_also_have_to_make_a_small_p_possible():
    assert power.detectable(1.0, 5) is None
    assert power.more_seeds(1e6, 1.0, 5) == 1
    assert power.more_seeds(1e6, 1.0, 5, 0.05 / 12) == 4, "twelve comparisons with one reference need nine"
    assert power.more_seeds(0.0, 1.0, 5) is None
    assert power.more_seeds(1.0, 0.0, 5) == 1


@pytest.mark.parametrize(("seeds", "effect"), [(2, 21.2), (5, 13.4), (9, 10.0)])
def test_power_of_t_where_the_noncentral_t_of_scipy_is_nan(seeds, effect):
    """Shifts of 30: 20,000 studies give the power to 0.01."""
    drawn = np.random.default_rng(4).normal(effect, 1, (20_000, seeds))
    level = 0.05 / 24
    found = stats.ttest_1samp(drawn, 0, axis=1).pvalue <= level
    assert power.t_power(effect, 1.0, seeds, level) == pytest.approx(found.mean(), abs=0.015)


def test_power_of_equality_against_simulation():
    """9 seeds, spread 1, margin 1.2, difference 0.2; 20,000 studies give the power to 0.007."""
    drawn = np.random.default_rng(2).normal(0.2, 1, (20_000, 9))
    simulated = (equality.tost(drawn, 1.2) <= 0.05).mean()
    assert power.equality_power(0.2, 1.0, 9, 1.2) == pytest.approx(simulated, abs=0.01)
    more = power.more_seeds_for_equality(0.2, 1.0, 5, 1.2)
    assert (
        power.equality_power(0.2, 1.0, 5 + more, 1.2) >= 0.8 > power.equality_power(0.2, 1.0, 4 + more, 1.2)
    )
    assert power.more_seeds_for_equality(1.5, 1.0, 5, 1.2) is None
    assert power.more_seeds_for_equality(0.1, 0.0, 5, 1.2) == 1


def test_log_rank_scores_give_the_statistic_of_statsmodels():
    """Twelve pairs as strata, with ties and censored times."""
    from statsmodels.duration.survfunc import survdiff

    generator = np.random.default_rng(3)
    a, b = (
        survival.Times(np.minimum(times, 6.0), times <= 6.0)
        for times in generator.integers(1, 9, (2, 12)).astype(float)
    )
    chi2, _ = survdiff(
        np.concatenate([a.times, b.times]),
        np.concatenate([a.reached, b.reached]).astype(int),
        np.repeat([0, 1], 12),
        strata=np.tile(np.arange(12), 2),
    )
    own = survival.scores(a, b)
    assert own.sum() ** 2 / (own**2).sum() == pytest.approx(chi2)


def test_scores_by_hand():
    """First, later, tied, both censored, censored before the other's event."""
    a = survival.Times(np.array([1.0, 3, 2, 5, 1]), np.array([True, True, True, False, False]))
    b = survival.Times(np.array([2.0, 2, 2, 5, 3]), np.array([True, True, True, False, True]))
    assert survival.scores(a, b).tolist() == [0.5, -0.5, 0, 0, 0]
    assert survival.scores(b, a).tolist() == [-0.5, 0.5, 0, 0, 0]


def test_restricted_mean_of_times_censored_at_the_horizon_is_a_plain_mean():
    a = survival.Times(np.array([1.0, 3, 5, 5]), np.array([True, True, False, False]))
    assert survival.restricted_mean(a, 5.0) == pytest.approx(3.5)
    assert survival.restricted(a, 4.0).tolist() == [1, 3, 4, 4]


def per_example(table: np.ndarray, weights: np.ndarray | None = None, groups: list[str] | None = None):
    seeds, examples = table.shape
    return PerExample(
        table,
        np.ones(examples) if weights is None else weights,
        groups or [f"g{i}" for i in range(examples)],
        tuple(range(seeds)),
    )


def test_groups_add_up_to_the_mean_over_label_tokens():
    generator = np.random.default_rng(4)
    values = per_example(
        generator.normal(size=(3, 8)), generator.integers(1, 9, 8).astype(float), list("aabbbcdd")
    )
    table = intervals.by_group(values)
    assert table.shape == (3, 4)
    assert table.mean() == pytest.approx(values.values.sum() / 3 / values.weights.sum())
    assert values.means().mean() == pytest.approx(table.mean())


def test_results_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="3 seeds and 4 examples, but there are 2 seeds"):
        PerExample(np.zeros((3, 4)), np.ones(4), list("abcd"), (0, 1))


def test_components_are_those_of_restricted_maximum_likelihood():
    """On balanced crossed tables both agree as long as no estimate is below zero."""
    import statsmodels.formula.api as smf

    generator = np.random.default_rng(5)
    table = generator.normal(0, 2, (6, 1)) + generator.normal(0, 1, (1, 8)) + generator.normal(0, 0.5, (6, 8))
    found = components.components(table, np.array([[1.0, 1.2], [2.0, 1.8]]))
    rows, columns = np.indices(table.shape)
    data = pd.DataFrame({"y": table.ravel(), "row": rows.ravel(), "column": columns.ravel(), "all": 1})
    model = smf.mixedlm(
        "y ~ 1",
        data,
        groups="all",
        re_formula="0",
        vc_formula={"row": "0 + C(row)", "column": "0 + C(column)"},
    ).fit(reml=True)
    expected = dict(zip(model.model.exog_vc.names, model.vcomp, strict=True))
    assert found.rows == pytest.approx(expected["row"], rel=1e-3)
    assert found.columns == pytest.approx(expected["column"], rel=1e-3)
    assert found.rest == pytest.approx(model.scale, rel=1e-3)
    assert found.rounding == pytest.approx(0.02)
    assert sum(found.shares().values()) == pytest.approx(1)


def test_improvement_pairs_seeds():
    """Always better with the same seed, which comparing every seed with every other would call 6 of 9."""
    shared = np.array([[0.0], [10.0], [20.0]])
    assert across.improvement(shared + 1, shared) == 1
    found = jackknife.jackknife(lambda rows: across.improvement(shared[rows] + 1, shared[rows]), 3)
    assert jackknife.of_probability(found, 3).low == pytest.approx(3 / (3 + stats.t.ppf(0.975, 2) ** 2))
    assert across.improvement(np.array([[1.0], [2.0]]), np.array([[1.0], [3.0]])) == 0.25, "a tie and a loss"


def test_numbers_across_priors_by_hand():
    scores = across.normalised(np.array([[2.0], [3.0]]), np.array([4.0]), np.array([2.0]))
    assert scores.tolist() == [[1.0], [0.5]]
    assert across.interquartile_mean(np.arange(8.0).reshape(4, 2)) == 3.5  # of 2, 3, 4, 5
    assert across.profile(np.array([[0.0], [1.0]]), np.array([0.5])).tolist() == [0.5]


def test_the_jackknife_of_a_mean_is_students():
    values = np.random.default_rng(7).normal(0, 1, 9)
    found = jackknife.jackknife(lambda rows: values[rows].mean(-1), 9)
    assert found.error == pytest.approx(stats.sem(values))
    assert jackknife.student(found).low == pytest.approx(intervals.over_seeds(values).low)
    assert np.isnan(jackknife.student(jackknife.jackknife(lambda rows: rows.sum(-1), 1)).low)


def test_the_interval_of_a_probability_is_wilsons():
    """With t in place of the normal quantile; of nine independent trials, and where all nine agree."""
    for share in (4 / 9, 1.0):
        error = np.sqrt(share * (1 - share) / 9)
        found = jackknife.of_probability(jackknife.Estimate(share, error, 9), 81)
        level = 2 * stats.norm.cdf(stats.t.ppf(0.975, 8)) - 1
        expected = stats.binomtest(round(9 * share), 9).proportion_ci(level, method="wilson")
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_intervals_of_scores_over_all_tasks_cover():
    """benchmarks/findings_rules.py counts more of them."""
    for share in overall_covered(9, 60):
        assert share >= 0.87


def test_intervals_say_where_they_lie():
    one = Interval(low=-1.0, high=2.0)
    assert one.above(-2)
    assert one.below(3)
    assert not one.above(0)


def test_the_energy_distance_is_the_literal_sum_and_scipys_in_one_dimension():
    generator = np.random.default_rng(8)
    a, b = generator.normal(size=(4, 3)), generator.normal(1, 1, (5, 3))
    between = np.mean([np.linalg.norm(a[i] - b[j]) for i in range(4) for j in range(5) if i != j])
    within = [
        np.mean([np.linalg.norm(own[i] - own[j]) for i in range(len(own)) for j in range(len(own)) if i != j])
        for own in (a, b)
    ]
    assert energy.energy_distance(a, b) == pytest.approx(2 * between - sum(within))
    # Points paired with themselves, and with that of the same number, are what the estimates differ in.
    x, y = a[:, :1], b[:, :1]
    across = np.abs(x - y.T)
    biased = energy.energy_distance(x, y) + sum(
        np.abs(own - own.T).mean() * len(own) / (len(own) - 1) / len(own) for own in (x, y)
    )
    biased += 2 * (across.mean() - across[np.eye(4, 5) == 0].mean())
    assert biased == pytest.approx(stats.energy_distance(x[:, 0], y[:, 0]) ** 2)


def test_two_halves_of_one_distribution_are_at_distance_zero_on_average():
    drawn = np.random.default_rng(9).normal(size=(400, 2, 6, 4))
    found = np.array([energy.energy_distance(a, b) for a, b in drawn])
    assert abs(found.mean()) < 4 * found.std() / 20


@pytest.mark.parametrize("shared", [False, True])
def test_energy_distance_is_the_same_whether_draws_are_shared(shared):
    """Trials of one seed draw the same normal numbers for every prior; 200 seeds, four standard errors."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(200):
        a = generator.normal(size=(20, 30))
        b = a if shared else generator.normal(size=(20, 30))
        found.append(energy.energy_distance(a, 1.3 * b))
    fresh = [
        energy.energy_distance(generator.normal(size=(20, 30)), 1.3 * generator.normal(size=(20, 30)))
        for _ in range(400)
    ]
    error = np.hypot(np.std(found) / 200**0.5, np.std(fresh) / 400**0.5)
    assert abs(np.mean(found) - np.mean(fresh)) < 4 * error
