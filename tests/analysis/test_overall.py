"""Priors over all tasks of a study at once, against the numbers by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.findings.simulated import NO_PROMPT, PREFIX, SOFT, Truth, simulated
from analysis.findings.study import Study
from analysis.overall import in_words, overall, scored_cells

LOSSES = {"isotropic": (1.8, 2.0, 2.2), "fitted": (2.4, 1.2, 3.6)}
"""By seed. `isotropic` is the best prior, with a mean of 2.0, and no prompt has 4.0."""


def test_priors_are_scored_between_no_prompt_and_the_best() -> None:
    """Two methods and two rates with the same losses, by hand.

    A score is (4 - loss) / (4 - 2): 1.1, 1.0, 0.9 of `isotropic` and 0.8, 1.4, 0.2 of `fitted`, each twice,
    as there are two methods. Of six numbers the interquartile mean leaves out the lowest and the highest:
    (0.9 + 1.0 + 1.0 + 1.1) / 4 = 1 and (0.2 + 0.8 + 0.8 + 1.4) / 4 = 0.8. `fitted` is better in
    one seed of three. Its interval would end at 2.07, above the score of a loss of 0, and is cut there.
    """
    study = simulated(Truth(methods=(SOFT, PREFIX), rates=(0.01, 0.02), seeds=3))
    assert NO_PROMPT == 4
    runs = []
    for run in study.runs:
        assert run.record.test is not None
        score = run.record.test.model_copy(update={"loss": LOSSES[run.axes["prior"]][run.seed]})
        runs.append(replace(run, record=run.record.model_copy(update={"test": score})))
    known = scored_cells(replace(study, runs=runs))
    assert known is not None
    assert known.limit == pytest.approx(4 / (4 - 2)), "a loss of 0"
    first, second = overall(replace(study, runs=runs))
    assert second.interval.high == pytest.approx(known.limit)
    assert (first.prior, second.prior) == ("isotropic", "fitted")
    assert first.score == pytest.approx(1.0)
    assert second.score == pytest.approx(0.8)
    assert second.averaged == pytest.approx(0.8)
    assert second.better == pytest.approx(1 / 3)
    assert first.better is None
    assert (second.seeds, second.cells, second.budget) == (3, 2, 2)
    assert second.interval.low <= second.score <= second.interval.high
    said = in_words([first, second])
    assert said[0].startswith("over 2 combinations of task, method and regularisers, 3 seeds each")
    assert said[2].startswith("  fitted: 0.80 [")


def test_what_has_no_scores_is_left_out() -> None:
    study = simulated(Truth(rates=(0.01,), seeds=2))
    assert len(overall(study)) == 2
    assert overall(Study(study.runs)) == [], "no baseline"
    assert overall(simulated(Truth(rates=(0.01,), seeds=1))) == [], "one seed"
    worse = Truth(rates=(0.01,), seeds=2, gap=0.0, spread=0.0)
    runs = simulated(worse).runs
    (task,) = study.baselines
    better = study.baselines[task].model_copy(
        update={"test": study.baselines[task].test.model_copy(update={"loss": 0.1})}  # type: ignore[union-attr]
    )
    assert overall(Study(runs, {task: better})) == [], "no prompt is better than none"
    assert in_words([]) == []


def test_priors_that_no_cells_share_have_no_scores() -> None:
    runs = simulated(Truth(methods=(SOFT, PREFIX), rates=(0.01,), seeds=2))
    own = {"isotropic": "xavier", "fitted": "zeros"}  # of one method
    named = [
        replace(run, axes=run.axes | {"prior": own[run.axes["prior"]]})
        if run.record.spec.method == SOFT
        else run
        for run in runs.runs
    ]
    assert overall(replace(runs, runs=named)) == []
