"""Optuna's samplers by name, made so that an interrupted search continues as if it had never stopped."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.search_space import intersection_search_space
from optuna.trial import FrozenTrial, TrialState

from softprior.seeding import derive
from softprior.studies.search.optuna_private import unit_cube

POPULATION = 20
"""Trials of one generation of NSGA-II."""

SIGMA = 1 / 6
"""First spread of CMA-ES, of the width of a range."""


class Seeded(BaseSampler):
    """A sampler whose draws depend only on seed, trial, parameter and the contents of the storage.

    Every draw uses a fresh sampler with its own seed. A long-lived sampler would have drawn other numbers by
    the time a search is resumed, and a proposal cut short by a kill could not be completed.
    """

    def __init__(self, name: str, seed: int, concurrent: bool) -> None:
        self._name = name
        self._seed = seed
        self._concurrent = concurrent

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._fresh(trial, "relative").infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, object]:
        sampler = self._fresh(trial, "relative")
        sampler.infer_relative_search_space(study, trial)  # TPE keeps the groups it found
        return sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> object:
        sampler = self._fresh(trial, param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._fresh(trial, "before").before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._fresh(trial, "after").after_trial(study, trial, state, values)

    def _fresh(self, trial: FrozenTrial, draw: str) -> BaseSampler:
        seed = derive(self._seed, "search", trial.number, draw) % 2**32
        if self._name == "random":
            return RandomSampler(seed=seed)
        if self._name == "gp":
            return GPSampler(seed=seed)
        if self._name == "nsgaii":
            return NSGAIISampler(seed=seed, population_size=POPULATION)
        if self._name == "cmaes":
            return CmaEs(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of `group`
            # A liar counts running trials as bad ones: with one at a time that would be the trial itself.
            return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=self._concurrent)


class CmaEs(BaseSampler):
    """CMA-ES over the numeric parameters that all trials have, its state rebuilt from the reported trials.

    Optuna's own keeps its state pickled in the storage, but nothing here is unpickled from a disk.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        space = intersection_search_space(study.get_trials(deepcopy=False))
        return {
            name: found
            for name, found in space.items()
            if not isinstance(found, CategoricalDistribution) and not found.single()
        }

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, object]:
        if not search_space:
            return {}
        from cmaes import CMA

        transform = unit_cube(search_space)
        bounds = transform.bounds
        optimizer = CMA(mean=bounds.mean(axis=1), sigma=SIGMA, bounds=bounds, seed=self._seed % 2**31)
        told = [
            (transform.transform({name: t.params[name] for name in search_space}), t.value)
            for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
            if t.value is not None and math.isfinite(t.value) and set(search_space) <= set(t.params)
        ]
        size = optimizer.population_size
        for start in range(0, len(told) - size + 1, size):
            optimizer.tell(told[start : start + size])
        point = optimizer.ask()
        return transform.untransform(np.clip(point, bounds[:, 0], bounds[:, 1]))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> object:
        return self._random.sample_independent(study, trial, param_name, param_distribution)
