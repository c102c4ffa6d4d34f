"""Claims: what each says about studies of known truth, and how often its rule is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from analysis.findings import collapse, common
from analysis.findings.claims import CLAIMS, JUDGED
from analysis.findings.contract import check_claim
from analysis.findings.evidence import Evidence
from analysis.findings.judging import case, finding, judge
from analysis.findings.nulls import NULLS, Null, errors, verdict
from analysis.findings.rules import Decision, Direction
from analysis.findings.simulated import CUT, KEEP, PREFIX, SOFT, Truth, simulated
from analysis.findings.study import Run, Study
from analysis.findings.values import Finding
from analysis.inference import intervals, power
from analysis.inference.energy import energy_distance
from analysis.inference.multiple import holm
from analysis.inference.permutation import sign_flip
from analysis.report.verdicts import COLUMNS, row
from benchmarks.findings_rules import crossed
from softprior.inputs.entries import Entry
from softprior.prompt import Place

BY_NAME = {judged.claim.name: judged for judged in JUDGED}

THREE = (Entry(name="isotropic", params={"scale": 0.02}), Entry(name="fitted"), Entry(name="vocabulary"))


@pytest.mark.parametrize("name", BY_NAME)
def test_every_claim_keeps_to_the_contract(name: str) -> None:
    check_claim(BY_NAME[name])


def found_for(name: str, **truth: Any) -> tuple[Finding, ...]:
    return judge(simulated(Truth(**{"rates": (0.01,), **truth})), (BY_NAME[name],))


TRUE: list[tuple[str, dict[str, Any], str]] = [
    ("quality", {}, "supported"),
    ("quality", {"gap": 0.5}, "contradicted"),
    ("quality", {"spread": 0.3, "seeds": 4}, "undecided"),
    ("collapse", {}, "supported"),
    ("collapse", {"inside": True}, "contradicted"),
    ("memory", {"memory": 1.0}, "supported"),
    ("memory", {"memory": 0.1}, "contradicted"),
    ("speed", {"later": 0.5}, "supported"),
    ("speed", {"later": 0.0, "noise": 0.0}, "undecided"),
    ("cut-or-keep", {"methods": (CUT, KEEP)}, "supported"),
    ("cut-or-keep", {"methods": (CUT, KEEP), "method_gap": 0.5}, "contradicted"),
    ("rate", {"rates": (0.01, 0.02, 0.04), "slope": 0.5}, "supported"),
    ("rate", {"rates": (0.01, 0.02, 0.04), "slope": -0.5, "noise": 0.02}, "contradicted"),
    ("regularisers", {"weights": (0.0, 1.0, 2.0), "pull": -0.8}, "supported"),
    ("regularisers", {"weights": (0.0, 1.0, 2.0)}, "undecided"),
    ("near-tokens", {"near": 1.0}, "supported"),
    ("near-tokens", {"near": -1.0}, "contradicted"),
    ("forgetting", {"forgetting": 0.5}, "supported"),
    ("forgetting", {}, "undecided"),
    ("routing", {"methods": (PREFIX,), "routing": 0.5}, "supported"),
    ("routing", {"methods": (PREFIX,), "routing": -0.5}, "contradicted"),
    ("words", {"rates": (0.01, 0.02, 0.04), "words": 2.0}, "supported"),
    ("words", {"rates": (0.01, 0.02, 0.04), "words": -2.0}, "contradicted"),
]


@pytest.mark.parametrize(("name", "truth", "verdict"), TRUE)
def test_claims_see_what_is_true(name: str, truth: dict[str, Any], verdict: str) -> None:
    found = found_for(name, **truth)
    assert {one.verdict for one in found} == {verdict}, [one.sentence for one in found]


def test_two_clusters_that_work_as_well_as_what_lies_between() -> None:
    fitted = [Entry(name="fitted", params={"part": part}) for part in ([0.0, 0.5], [0.5, 1.0])]
    between = Entry(
        name="interpolation", params={"first": {"part": [0.0, 0.5]}, "second": {"part": [0.5, 1.0]}}
    )
    for gap, expected in ((0.0, "supported"), (0.5, "contradicted")):
        (found,) = found_for("between", priors=(*fitted, between), gap=gap)
        assert found.verdict == expected
        assert len(found.comparisons) == 3


def test_metrics_that_disagree_make_a_claim_depend_on_the_metric() -> None:
    """Far along a direction in which tokens hardly differ: near in L2, far in whitened components."""
    own = np.random.default_rng(0).normal(size=(300, 6))
    own[:, 5] *= 0.01
    vectors = own[:8].copy()
    vectors[:, 5] += 0.3
    found = collapse.Cluster(own[8:150], own[150:]).shares(vectors)
    assert found["L2"] > 0.5
    assert found["whitened"] == 0
    numbers = {metric: np.full(9, share) for metric, share in found.items()}
    evidence = Evidence(where="here", numbers=numbers)
    rule = BY_NAME["collapse"].rule
    tests = rule.tests(evidence)
    corrected = dict(zip([t.what for t in tests], holm(np.array([t.p for t in tests])), strict=True))
    assert rule.decide(evidence, corrected).verdict == "depends on the metric"


def test_far_and_random_vectors_that_disagree_make_a_claim_depend_on_what_is_removed() -> None:
    study = simulated(Truth(rates=(0.01,), near=1.0))
    near, generator = study.numbers["without_near"], np.random.default_rng(0)
    random = {trial: loss - 0.5 + generator.normal(0, 0.01) for trial, loss in near.items()}
    mixed = replace(study, numbers={**study.numbers, "without_random": random})
    for found in judge(mixed, (BY_NAME["near-tokens"],)):
        assert found.verdict == "depends on the metric"
        assert ": depends on what is removed for " in found.sentence
        assert "; other numbers: random - near -0." in found.sentence


def test_trials_that_do_not_count_label_tokens_are_not_timed_with_those_that_do() -> None:
    study = simulated(Truth(rates=(0.01,), later=0.5, seeds=3))
    first, *others = study.runs
    old = tuple(replace(point, labels=None) for point in first.record.steps)
    mixed = [replace(first, record=first.record.model_copy(update={"steps": old})), *others]
    (found,) = judge(replace(study, runs=mixed), (BY_NAME["speed"],))
    assert found.verdict == "undecided"
    assert found.reason == "some trials predate the counting of label tokens"


def test_equal_distances_have_no_slope_at_all() -> None:
    logs = np.log([0.1, 0.05, 0.01]).tolist()
    assert common.slope(logs, [1.0, 1.0, 1.0]) == 0.0
    np.testing.assert_allclose(common.slope(logs, [2 * at + 7 for at in logs]), 2.0, rtol=1e-12)


def test_memory_is_the_ratio_of_summed_energy_distances() -> None:
    study = simulated(Truth(rates=(0.01,), memory=0.4, seeds=4))
    (found,) = judge(study, (BY_NAME["memory"],))
    sums = {"initial": 0.0, "final": 0.0}
    for seed in range(4):
        own = [study.posteriors[run.id] for run in study.runs if run.seed == seed]
        for moment in sums:
            sets = [getattr(one, moment)[Place(0)].numpy() for one in own]
            sums[moment] += energy_distance(*sets)
    assert found.primary is not None
    assert found.primary.value == pytest.approx(sums["final"] / sums["initial"])


def test_memory_is_undecided_where_training_could_not_reach() -> None:
    study = simulated(Truth(rates=(0.01,)))
    for run in study.runs:
        for place in run.record.geometry.values():
            object.__setattr__(place, "reach", 0.1)
    (found,) = judge(study, (BY_NAME["memory"],))
    assert found.verdict == "undecided"
    assert "farther apart than reach" in found.sentence
    assert found.settle == "train longer or at a higher rate"
    few = replace(study, runs=[run for run in study.runs if run.seed < 4])
    (found,) = judge(few, (BY_NAME["memory"],))
    told = "train longer or at a higher rate, and add 2 seeds or more: with 4 no p is small enough"
    assert found.settle == told, "what else there is to do does not make up for seeds"


def test_priors_without_a_common_place_have_no_ratio() -> None:
    study = simulated(Truth(rates=(0.01,), seeds=2))
    moved = {
        run.id: replace(
            own, **{moment: {Place(1): getattr(own, moment)[Place(0)]} for moment in ("initial", "final")}
        )
        for run in study.runs
        if run.axes["prior"] == "fitted"
        for own in [study.posteriors[run.id]]
    }
    (found,) = judge(replace(study, posteriors={**study.posteriors, **moved}), (BY_NAME["memory"],))
    assert found.reason == "the two priors share no place with vectors that can be compared"
    assert found.settle == "compare other priors"


def test_few_seeds_are_said_of_the_cell_that_has_them() -> None:
    study = simulated(Truth(methods=(SOFT, PREFIX), rates=(0.01,), seeds=3))
    one = next(run for run in study.runs if run.record.spec.method == PREFIX)
    kept = [run for run in study.runs if run.record.spec.method == SOFT]
    (soft, prefix) = judge(replace(study, runs=[*kept, one]), (BY_NAME["quality"],))
    assert soft.primary is not None
    assert "; also, this cell has fewer than two seeds; add seeds" in prefix.sentence


def test_the_margin_is_a_share_of_what_the_best_prompt_gains() -> None:
    (found,) = found_for("quality", spread=0.0, gap=0.2)
    (cell,) = simulated(Truth(rates=(0.01,), spread=0.0, gap=0.2)).cells("prior")
    best = min(common.mean_loss(side) for side in cell.sides.values())
    assert found.margin == pytest.approx(0.05 * (4.0 - best))


def test_the_rate_is_chosen_on_validation_and_the_budget_stands_beside() -> None:
    study = simulated(Truth(rates=(0.01, 0.02), seeds=3))
    (cell,) = study.cells("prior")
    for name, side in cell.sides.items():
        means = {
            rate: np.mean([run.record.validation[-1].loss for run in runs.values()])
            for rate, runs in side.rates.items()
        }
        assert cell.rates[name] == min(means, key=lambda rate: means[rate])
        expected = {s: np.mean([runs[s].loss for runs in side.rates.values()]) for s in range(3)}
        assert side.values(common.loss, averaged=True) == pytest.approx(expected)
    assert cell.budget == {"isotropic": 2, "fitted": 2}


def test_a_rate_at_which_seeds_are_missing_is_not_chosen() -> None:
    study = simulated(Truth(rates=(0.01, 0.02), seeds=3))
    (cell,) = study.cells("prior")
    best = cell.sides["fitted"].chosen
    runs = [
        r for r in study.runs if not (r.axes["prior"] == "fitted" and r.axes["rate"] == best and r.seed == 0)
    ]
    (again,) = Study(runs, study.baselines).cells("prior")
    assert again.sides["fitted"].chosen != best


def test_planned_claims_are_corrected_apart_from_exploratory_ones() -> None:
    study = simulated(Truth(rates=(0.01,), priors=THREE))
    planned = Study(
        study.runs,
        study.baselines,
        study.posteriors,
        study.vocabulary,
        study.numbers,
        planned={"quality": BY_NAME["quality"].claim.rule, "memory": "another rule"},
    )
    found = judge(planned)
    (quality,) = (one for one in found if one.claim.name == "quality")
    assert not quality.exploratory
    assert all(one.exploratory for one in found if one is not quality), "a changed rule is no plan"
    # Three tests of its own: equality of all pairs, and two priors beyond the margin.
    assert quality.primary is not None
    assert quality.primary.adjusted == pytest.approx(
        holm(np.array([max(one.p for one in quality.comparisons), 1.0, 1.0]))[0]
    )
    assert "(exploratory)" not in quality.sentence


def test_what_would_settle_it_does() -> None:
    """Four seeds with a mean difference of 0.02 and a spread of 0.08: the seeds asked for show equality."""
    own = np.array([-1.0, -1.0, 1.0, 1.0]) * 0.08 * np.sqrt(3) / 2 + 0.02
    one = case(BY_NAME["quality"], Evidence(where="here", numbers={"b - a": own}, margin=0.1))
    raw = [test.p for test in one.tests]
    found = finding(one, holm(np.array(raw)).tolist(), len(raw))
    assert found.verdict == "undecided"
    assert found.primary is not None
    more = found.primary.more_seeds
    assert found.settle == f"add {more} seeds at this spread to show that they are equal"
    assert more is not None
    drawn = np.random.default_rng(5).normal(0.02, 0.08, (300, 4 + more))
    verdicts = [verdict("quality", Evidence(where="here", numbers={"b - a": o}, margin=0.1)) for o in drawn]
    assert verdicts.count("supported") / 300 == pytest.approx(0.82, abs=0.08)


def test_a_difference_beyond_the_margin_is_not_settled_by_showing_equality() -> None:
    """Four seeds and two tests: seven seeds are the fewest with which p is small enough."""
    numbers = {what: np.array([0.48, 0.49, 0.51, 0.52]) for what in ("b - a", "c - b")}
    known = Evidence(where="here", numbers=numbers, margin=0.1, primary=("b - a",))
    one = case(BY_NAME["quality"], known)
    found = finding(one, [1.0, 0.5], len(one.tests))
    assert found.settle == "add 3 seeds at this spread to show that b - a lies beyond the margin"
    assert re.search(r"p 1(\.0)? for a difference within the margin, \S+ after Holm", found.sentence)
    sure = finding(one, [1.0, 0.01], len(one.tests))
    assert sure.verdict == "contradicted"
    assert re.search(r"p 0\.12 for a difference beyond the margin, 0\.01 after Holm", sure.sentence)


def test_a_pair_without_the_first_prior_beyond_the_margin_asks_for_another_first_prior() -> None:
    spread = np.array([-0.01, 0.0, 0.0, 0.01])
    numbers = {"b - a": spread + 0.08, "c - a": spread - 0.08, "c - b": spread - 0.158}
    known = Evidence(where="here", numbers=numbers, margin=0.1, primary=("b - a", "c - a"))
    one = case(BY_NAME["quality"], known)
    found = finding(one, [1.0, 1.0, 1.0], len(one.tests))
    assert found.primary is not None
    assert found.primary.what == "c - b"
    assert found.settle == (
        "run a study whose first prior is one of the two of c - b: they differ by more than the margin, and "
        "only differences from the first prior are tested for that"
    )


@pytest.mark.parametrize("methods", [(SOFT,), (SOFT, PREFIX, CUT, KEEP)], ids=["soft", "all methods"])
def test_lost_posteriors_do_not_ease_the_correction(methods: tuple[Entry, ...]) -> None:
    """The family has as many tests as before, whose smallest p is multiplied by their number."""
    whole = simulated(Truth(methods=methods, rates=(0.01, 0.02), seeds=4))
    for some in (replace(whole, posteriors={}), replace(whole, posteriors={}, vocabulary=None)):
        before, after = judge(whole), judge(some)
        tests = sum(len(case(one, e).tests) for one in JUDGED for e in one.evidence(whole))
        left = [case(one, e) for one in JUDGED for e in one.evidence(some)]
        assert sum(len(one.tests) + one.evidence.lost for one in left) == tests
        known = {(own.claim.name, own.where): own for own in before}
        for own in after:
            if own.primary is not None:
                was = known[own.claim.name, own.where].primary
                assert was is not None
                assert own.primary.adjusted >= was.adjusted


def test_two_seeds_do_not_say_how_many_are_needed() -> None:
    for seeds, told in ((2, "two"), (3, "three")):
        slopes = np.array([0.01, 0.09, 0.05])[:seeds]
        one = case(BY_NAME["rate"], Evidence(where="here", numbers={"slope": slopes}))
        found = finding(one, [1.0], 1)
        settle = f"add seeds: at least 6 are needed, and {told} seeds do not tell how many more"
        assert found.settle == settle
        later = "exploratory if added to this study, planned in a new one"
        assert found.sentence.endswith(f"; to settle it, {settle} ({later}).")
        already = finding(one._replace(exploratory=True), [1.0], 1).sentence
        anew = "in a new study (name=...): in this one it stays exploratory"
        assert already.endswith(f"; to settle it, {settle}, {anew} (exploratory).")


STUDIES = 1000
NINE = 9
EVERY_RULE = [
    null for null in NULLS if null.claim in ("memory", "collapse", "quality", "speed", "forgetting")
]
"""One claim of each rule; benchmarks/findings_rules.py has them all."""


@pytest.mark.parametrize("null", EVERY_RULE, ids=lambda null: f"{null.claim}-{'-'.join(sorted(null.wrong))}")
def test_rules_are_wrong_in_at_most_five_of_a_hundred_null_studies(null: Null) -> None:
    wrong = errors(null, STUDIES)
    assert stats.binomtest(wrong, STUDIES).proportion_ci(0.99).low <= 0.05, f"{wrong} of {STUDIES}"


def test_every_claim_and_every_rule_has_a_null() -> None:
    assert {null.claim for null in NULLS} == set(BY_NAME)
    rules = {type(judged.rule) for judged in JUDGED}
    assert {type(BY_NAME[null.claim].rule) for null in EVERY_RULE} == rules
    assert [claim.number for claim in CLAIMS] == sorted({claim.number for claim in CLAIMS})


@pytest.mark.parametrize("seeds", [5, 9, 20])
def test_intervals_over_seeds_cover(seeds: int) -> None:
    drawn = np.random.default_rng(1).normal(0.3, 1, (4000, seeds))
    low, high = intervals.ends_over_seeds(drawn)
    assert 0.93 <= ((low <= 0.3) & (high >= 0.3)).mean() <= 0.97


def test_intervals_over_seeds_and_examples_cover() -> None:
    """benchmarks/findings_rules.py counts more of them; here 5 standard errors are allowed."""
    assert crossed(200) == pytest.approx(0.95, abs=0.08)


@pytest.mark.parametrize(("name", "limit"), [("rate", 0.0), ("memory", 0.5)])
def test_power_rises_as_planned(name: str, limit: float) -> None:
    """At the effect that 9 seeds detect with 80% power, at half of it, and with the seeds asked for."""
    generator = np.random.default_rng(4)

    def share(effect: float, seeds: int) -> float:
        drawn = generator.normal(limit + effect, 1, (400, seeds))
        verdicts = [verdict(name, Evidence(where="here", numbers={"x": own})) for own in drawn]
        return verdicts.count("supported") / len(drawn)

    detectable = power.detectable(1.0, NINE)
    assert detectable is not None
    assert share(detectable, NINE) == pytest.approx(0.8, abs=0.07)
    assert share(detectable / 2, NINE) < 0.45
    more = power.more_seeds(0.9, 1.0, 4)
    assert more is not None
    assert share(0.9, 4 + more) == pytest.approx(0.82, abs=0.08)


def test_a_finding_says_the_smallest_effect_that_it_could_have_seen() -> None:
    """Nine seeds of standard deviation 1: sign flips find 1.085 in 80% of 20,000 studies, a t-test 1.067."""
    own = np.array([-1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5])
    own = own / own.std(ddof=1)

    def by_hand(level: float) -> float:
        drawn = np.random.default_rng(9).normal(0, 1, (3000, 9))
        return float(
            optimize.brentq(lambda d: (sign_flip(drawn + d) <= level).mean() - 0.8, 0.5, 2, xtol=1e-3)
        )

    def found(name: str, **known: Any) -> Finding:
        one = case(BY_NAME[name], Evidence(where="here", **known))
        return finding(one, [test.p for test in one.tests], len(one.tests))

    rate = found("rate", numbers={"slope": own})
    assert rate.primary is not None
    assert rate.primary.detectable == pytest.approx(by_hand(0.05), rel=0.03)
    assert "; the smallest effect it could have detected is 1.09" in rate.sentence
    memory = found("memory", numbers={"ratio": own})
    assert "; the smallest distance from 0.5 it could have detected is 1.09" in memory.sentence
    equal = found("quality", numbers={"b - a": own}, margin=0.2)
    assert equal.primary is not None
    seen = equal.primary.detectable
    assert seen == pytest.approx(0.2 + by_hand(0.025), rel=0.03), "beyond the margin, and of two tests"
    assert "; the smallest difference it could have shown to be beyond the margin is " in equal.sentence
    pairs = {"b - a": own + 9, "c - a": own + 9, "c - b": own}
    three = found("quality", numbers=pairs, primary=("b - a", "c - a"), margin=0.2)
    detectable = {one.what: one.detectable for one in three.comparisons}
    assert detectable["c - b"] is None, "which no test beyond the margin covers"
    assert detectable["b - a"] == pytest.approx(0.2 + by_hand(0.05 / 3), rel=0.03)
    drawn = np.random.default_rng(6).normal(seen, 1, (300, 9))
    verdicts = [verdict("quality", Evidence(where="here", numbers={"b - a": o}, margin=0.2)) for o in drawn]
    assert verdicts.count("contradicted") / 300 == pytest.approx(0.8, abs=0.07)
    speed = found("speed", numbers={"b - a": own}, tested={"b - a": np.sign(own)})
    assert speed.primary is not None
    assert speed.primary.detectable is None, "the test is of other numbers"
    few = found("rate", numbers={"slope": own[:4]})
    assert "could have detected" not in few.sentence, "four seeds give no p below 0.125"


def test_a_number_comes_from_the_trials_that_it_names() -> None:
    study = simulated(Truth(rates=(0.01, 0.02), priors=THREE, seeds=3, forgetting=0.2, slope=0.5))
    by_id = {run.id: run for run in study.runs}

    def mean(trials: Iterable[str], number: Callable[[Run], float | None]) -> float:
        return float(np.mean([number(by_id[trial]) for trial in trials]))

    numbers = {"quality": common.loss, "forgetting": lambda run: study.numbers["forgetting"][run.id]}
    for name, number in numbers.items():
        (found,) = judge(study, (BY_NAME[name],))
        for own in found.comparisons:
            half = len(own.trials) // 2
            assert own.value == pytest.approx(
                mean(own.trials[:half], number) - mean(own.trials[half:], number)
            )
    (quality,) = judge(study, (BY_NAME["quality"],))
    (baseline,) = study.baselines.values()
    assert quality.margin_trials[0] == baseline.id
    assert quality.margin == pytest.approx(0.05 * (4.0 - mean(quality.margin_trials[1:], common.loss)))
    for found in judge(study, (BY_NAME["rate"],)):
        prior = found.where.rpartition(" · ")[2]
        assert set(found.comparisons[0].trials) == {
            i for i, run in by_id.items() if run.axes["prior"] == prior
        }


def test_nothing_is_undecided_without_saying_what_would_settle_it() -> None:
    """Studies of every shape and spread: each row of a verdict table that is open ends with a remedy."""
    shapes: list[dict[str, Any]] = [
        {"seeds": seeds, "spread": spread, "noise": noise, "methods": (SOFT, PREFIX), "near": near}
        for seeds, spread, noise, near in (
            (2, 0.0, 0.0, 0.0),
            (6, 0.3, 0.5, -0.2),
            (9, 0.1, 0.3, 0.05),
        )
    ]
    shapes.append({"weights": (0.0, 1.0, 2.0), "seeds": 4, "rates": (0.01,)})
    undecided = 0
    for shape in shapes:
        for found in judge(simulated(Truth(**shape))):
            if found.verdict == "undecided":
                undecided += 1
                assert found.settle, found.sentence
                if found.primary is not None:
                    assert row(found)[COLUMNS.index("would settle it")].text.strip()
    assert undecided > 10
    far = np.array([0.01] * 7 + [10.0])  # all signs agree, and Student's interval has zero in it
    one = case(BY_NAME["rate"], Evidence(where="here", numbers={"slope": far}))
    found = finding(one, [test.p for test in one.tests], 1)
    assert found.primary is not None
    assert found.primary.adjusted < 0.05
    assert found.verdict == "undecided"
    assert re.fullmatch(r"add \d+ seeds at this spread", found.settle)


def test_equal_seeds_ask_for_no_more_of_them() -> None:
    one = case(BY_NAME["rate"], Evidence(where="here", numbers={"slope": np.zeros(5)}))
    found = finding(one, [1.0], 1)
    assert found.settle == (
        "compare what may differ: no seed shows a difference, and more of them would hardly show one"
    )
    for speed in found_for("speed", later=0.0, noise=0.0):
        assert "because every seed takes as long from both priors" in speed.sentence
        assert "raise training.curve, as a coarse curve hides small differences" in speed.settle


def test_one_cell_without_a_baseline_has_no_margin() -> None:
    study = simulated(Truth(rates=(0.01,), seeds=2))
    (found,) = judge(Study(study.runs), (BY_NAME["quality"],))
    assert found.reason == "the no-prompt baseline has not finished, so there is no margin"


def test_one_cell_whose_baseline_has_no_validation_loss_is_not_said_to_gain_nothing() -> None:
    study = simulated(Truth(rates=(0.01,), later=0.5, seeds=2))
    bare = {task: one.model_copy(update={"validation": ()}) for task, one in study.baselines.items()}
    (found,) = judge(replace(study, baselines=bare), (BY_NAME["speed"],))
    assert found.reason == "the no-prompt baseline has no validation loss"


@pytest.mark.parametrize(
    ("near", "verdict"), [(np.resize([0.2, 0.1], 3), "undecided"), (np.resize([0.2, 0.1], 9), "depends")]
)
def test_of_numbers_with_equal_p_the_one_farthest_from_the_limit_is_shown(
    near: np.ndarray, verdict: str
) -> None:
    rule, known = Direction(), Evidence(where="here", numbers={"near": near, "far": -10 * near})
    adjusted = {test.what: test.p for test in rule.tests(known)}
    assert adjusted["near"] == adjusted["far"]
    found = rule.decide(known, adjusted)
    assert found.verdict.startswith(verdict)
    assert found.what == "far"


def test_an_undecided_finding_shows_the_number_that_does_not_decide() -> None:
    clear, unclear = 1.0 + np.arange(14) / 100, np.resize([0.5, -0.4], 14)
    rule, known = Direction(), Evidence(where="here", numbers={"clear": clear, "unclear": unclear})
    adjusted = {test.what: test.p for test in rule.tests(known)}
    assert adjusted["clear"] < 0.05 < adjusted["unclear"]
    assert rule.decide(known, adjusted) == Decision("undecided", "unclear")
