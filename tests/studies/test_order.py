"""The order in which planned trials run."""

from __future__ import annotations

from softprior.inputs.specs import Rate, TrialSpec
from softprior.methods import METHODS
from softprior.priors import PRIORS
from softprior.studies.order import starts_first
from tests.builders import trial


def test_trials_of_one_start_do_not_follow_each_other() -> None:
    def one(prior: str, rate: float, **changed: object) -> TrialSpec:
        return trial(prior=PRIORS[prior](), rate=Rate(value=rate)).model_copy(update=changed)

    baseline = trial(method=METHODS["none"]())
    planned = [baseline, *(one(prior, rate) for prior in ("isotropic", "fitted") for rate in (0.1, 0.2, 0.3))]
    twins = [one("isotropic", rate, twin=1e-6) for rate in (0.1, 0.2)]
    expected = [baseline, *(planned[i] for i in (1, 4, 2, 5, 3, 6)), *twins]
    assert starts_first([*planned, *twins]) == expected
    first, second, *others = expected
    assert starts_first([*planned, *twins], beside=True) == [second, first, *others]
    assert starts_first([baseline], beside=True) == [baseline]
    seeds = [one("fitted", rate, seed=seed) for rate in (0.1, 0.2) for seed in (0, 1)]
    assert starts_first(seeds) == seeds, "as a grid has them"
