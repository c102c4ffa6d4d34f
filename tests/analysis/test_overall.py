"""Priors over all tasks of a study at once, against the numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.findings.simulated import NO_PROMPT, PREFIX, SOFT, Truth, simulated
from analysis.findings.study import Study
from analysis.overall import in_words, overall


def test_priors_are_scored_between_no_prompt_and_the_best() -> None:
    """Two methods, three seeds, two rates of equal losses; `fitted` is half a nat worse."""
    study = simulated(Truth(methods=(SOFT, PREFIX), rates=(0.01, 0.02), gap=0.5, spread=0.0, seeds=3))
    first, second = overall(study)
    losses = {
        name: np.array([run.loss for run in study.runs if run.axes["prior"] == name])
        for name in ("isotropic", "fitted")
    }
    best = losses["isotropic"].mean()
    scores = {name: np.sort((NO_PROMPT - own) / (NO_PROMPT - best)) for name, own in losses.items()}
    # Twelve numbers each, every one twice because of the rates: the middle half of six.
    by_hand = {name: own[::2][1:-1].mean() for name, own in scores.items()}
    assert (first.prior, second.prior) == ("isotropic", "fitted")
    assert first.score == pytest.approx(by_hand["isotropic"])
    assert second.score == pytest.approx(by_hand["fitted"])
    assert second.averaged == pytest.approx(second.score)
    assert second.better == 0, "half a nat worse with every seed"
    assert first.better is None
    assert (second.seeds, second.cells, second.budget) == (3, 2, 2)
    assert second.interval.low <= second.score <= second.interval.high
    said = in_words([first, second])
    assert said[0].startswith("over 2 combinations of task, method and regularisers, 3 seeds each")
    assert said[2].startswith(f"  fitted: {second.score:.2f} [")


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
