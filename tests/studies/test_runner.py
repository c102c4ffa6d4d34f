"""What Tune is told of a study's trials, by a Tune that runs none and a cluster without Ray."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from softprior.inputs.specs import Rate
from softprior.priors import PRIORS
from softprior.results.folder import StudyFolder
from softprior.studies.cluster import PENDING, Cluster
from softprior.studies.order import starts_first
from softprior.studies.runner import run_trials
from softprior.studies.turns import Turns
from tests.builders import Finished, trial


class Still(Cluster):
    """A machine of three CPUs on which nothing is started."""

    def _hold(self) -> None:
        self.nodes = [{"CPU": 3}]
        self._connected.set()


def test_a_grid_on_this_machine_runs_in_turns(
    finished_study: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import tune
    from ray.tune.execution import class_cache

    told: dict[str, Any] = {}
    study, sent = finished_study.plan.study, dict(class_cache.DEFAULT_ENV_VARS)

    class Told:
        def __init__(self, trainable: object, **options: Any) -> None:  # noqa: ARG002
            told.update(options)

        def fit(self) -> None:
            told["pending"] = os.environ[PENDING]
            told["sent"] = dict(class_cache.DEFAULT_ENV_VARS)

    monkeypatch.setattr(tune, "Tuner", Told)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv(PENDING, "7")
    resources = study.resources.model_copy(update={"cpus": 1, "concurrent": None})
    planned = [
        trial(prior=PRIORS[prior](), rate=Rate(value=rate))
        for prior in ("isotropic", "fitted")
        for rate in (0.1, 0.2)
    ]
    one = study.model_copy(update={"resources": resources})
    run_trials(one, planned, StudyFolder(tmp_path), [], Still(resources))

    ordered = starts_first(planned)
    assert ordered != planned
    assert told["param_space"]["trial"]["grid_search"] == [one.canonical() for one in ordered]
    turns = told["tune_config"].scheduler
    assert isinstance(turns, Turns)
    assert turns._places == 3
    assert told["pending"] == "3"
    assert (told["sent"], class_cache.DEFAULT_ENV_VARS) == ({}, sent)
    assert os.environ[PENDING] == "7"
