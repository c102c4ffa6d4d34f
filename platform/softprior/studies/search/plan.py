"""What a search will run: its space, checked at the ends of all ranges, and trials as they are proposed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import reduce
from operator import or_
from typing import Any

from optuna.trial import FixedTrial

from softprior.errors import UserError, hidden_in
from softprior.inputs.specs import LATER, REPEATS, StudySpec, TrialSpec
from softprior.inputs.validation import validate
from softprior.methods import METHODS
from softprior.priors import PRIORS, assignment
from softprior.studies.components import Components
from softprior.studies.pairing import can_carry, can_start, limit
from softprior.studies.parts import resolve, shown
from softprior.studies.plan import Plan, plan_study
from softprior.studies.search.labelled import without_labels
from softprior.studies.search.space import Space
from softprior.studies.search.spec import FIXED, SearchSpec, SearchStudy
from softprior.training.recognised import recognised


class SearchPlan:
    """A search, checked as far as it can be before it runs, and its trials so far.

    Attributes:
        study: the study with every range at its low end and every list whole; only its name, its model and
            where to run are used.
        search: how to search.
        space: what to search over.
        baselines: trials without a prompt, which run once.
        ends: trials of the grid that the ends of all ranges make; some of them the search may propose.
        components: those of the ends and the baselines, and of every trial that differs from them in ranges
            alone.
        notes, model: as of a study's plan.
    """

    def __init__(self, template: SearchStudy, where: str) -> None:
        """Plans the grids that the ends of all ranges make.

        Raises:
            UserError: one of them is not a valid study, or two entries cannot be combined.
        """
        self.search: SearchSpec = template.search
        self._template = template
        self._where = where
        self.space = Space(template, where)
        corners = [validate(StudySpec, data, where) for data in self.space.corners()]
        for kind in REPEATS:
            if any(getattr(corner.evaluation, kind) for corner in corners):
                raise UserError(
                    f"{where}: evaluation.{kind} is for grids: a search would take a repeated trial for a "
                    "better or worse proposal; leave it out, and run the best points as a study with it"
                )
        plans = [plan_study(corner, where) for corner in corners]
        for plan in plans:
            _require_pairs(plan, where)
        self.study = corners[0]
        self.model = plans[0].model
        self.notes = tuple(dict.fromkeys(note for plan in plans for note in plan.notes))
        planned = {trial.id: trial for plan in plans for trial in plan.trials}
        self.baselines = tuple(trial for trial in plans[0].trials if trial.training is None)
        self.ends = tuple(trial for trial in planned.values() if trial.training is not None)
        if not self.ends:
            raise UserError(
                f"{where}: methods: none of them trains a prompt, so there is nothing to search over"
            )
        self.components: Components = reduce(or_, (plan.components for plan in plans))
        self._proposed: dict[str, TrialSpec] = {}
        self._require_curves()

    @property
    def trials(self) -> tuple[TrialSpec, ...]:
        """The baselines and all trials proposed so far."""
        return (*self.baselines, *self._proposed.values())

    @property
    def spec(self) -> dict[str, object]:
        """The file, with its ranges, and without the passwords in its addresses."""
        found = {key: hidden_in(value) for key, value in self._template.data.items()}
        return {**found, "search": self.search.model_dump(mode="json")}

    @property
    def members(self) -> int:
        """Trials of one proposal: one for every task and seed."""
        return len({task.canonical() for task in self.study.tasks}) * len(set(self.study.seeds))

    def identity(self) -> str:
        """What must not change when a search continues: the ranges, the objectives and the model's weights.

        In a search begun before `normalisation` was a choice, steps were divided by their own numbers of
        labels, and its identity does not say so: `step` is left out of it, and the default written into it.
        """
        data = without_labels(self._template.data)
        kept = {key: value for key, value in data.items() if key not in FIXED}
        training = {"normalisation": self.study.training.normalisation, **kept["training"]}
        if training["normalisation"] == "step":
            del training["normalisation"]
        kept["training"] = training
        evaluation = kept.get("evaluation")
        if isinstance(evaluation, dict) and not evaluation.keys().isdisjoint(LATER):
            kept["evaluation"] = {key: value for key, value in evaluation.items() if key not in LATER}
            kept = {key: value for key, value in kept.items() if value != {}}
        kept["objective"] = [objective.model_dump() for objective in self.search.objective]
        kept["model"] = self.ends[0].model_fingerprint
        return json.dumps(kept, sort_keys=True)

    def at(self, data: dict[str, object]) -> tuple[TrialSpec, ...]:
        """The trials of one point of the space.

        Raises:
            UserError: values that are each valid by themselves do not fit together.
        """
        trials = plan_study(validate(StudySpec, data, self._where), self._where).trials
        return tuple(trial for trial in trials if trial.training is not None)

    def recalled(self, trials: Sequence[TrialSpec], params: dict[str, Any]) -> list[TrialSpec]:
        """Trials from the records of a proposal, shown under the labels that the file has now."""
        found = [self.measured(recognised(trial)) for trial in trials]
        if without_labels(self._template.data) == self._template.data:
            return found
        with suppress(UserError):  # an own component may be gone since
            point = validate(StudySpec, self.space.point(FixedTrial(params)), self._where)
            parts = resolve(point, self._where)
            return [shown(trial, parts) for trial in found]
        return found

    def measured(self, trial: TrialSpec) -> TrialSpec:
        """A trial from a record, to be measured on other tasks, and probed, as the file says now."""
        now = {key: getattr(self.ends[0].evaluation, key) for key in LATER}
        return trial.model_copy(update={"evaluation": trial.evaluation.model_copy(update=now)})

    def add(self, trials: Sequence[TrialSpec]) -> None:
        """Counts trials among those proposed."""
        self._proposed |= {trial.id: trial for trial in trials}

    def largest(self) -> int:
        """Steps of the longest trial at the ends."""
        return max(trial.training.steps for trial in self.ends if trial.training is not None)

    def _require_curves(self) -> None:
        """Early stopping needs something to compare before the end.

        Raises:
            UserError: there is nothing.
        """
        stopping = self.search.early_stopping
        if stopping is None:
            return
        if self.members > 1:
            raise UserError(
                f"{self._where}: search.early_stopping needs one task and one seed, but this study has "
                f"{self.members} pairs of them; remove some, or early_stopping"
            )
        if all(trial.training is not None and trial.training.curve == 1 for trial in self.ends):
            raise UserError(
                f"{self._where}: search.early_stopping reads the validation curve, but training.curve = 1 "
                "measures only its end; raise it"
            )
        if stopping.asha.grace >= self.largest():
            raise UserError(
                f"{self._where}: search.early_stopping.asha.grace = {stopping.asha.grace:,} counts steps and "
                f"is not before the end of the longest trial, {self.largest():,}; lower it"
            )


def _require_pairs(plan: Plan, where: str) -> None:
    """A grid leaves out what cannot be combined; a sampler would keep proposing it.

    Raises:
        UserError: a prior cannot start a method or support a list of regularisers.
    """
    parts, shape = plan.parts, plan.model.shape
    for i, method in enumerate(parts.methods[-parts.named :]):
        for j, named in enumerate(parts.priors if method.trained else ()):
            prior = assignment(named)
            if not can_start(prior, method, shape):
                rule, has = limit(named, method, shape, j)
                raise UserError(
                    f"{where}: priors[{j}] cannot start methods[{i}], and a search combines any two: {rule}, "
                    f"but {METHODS.name(method)} has {has}; remove one of them"
                )
            for k, terms in enumerate(parts.regularisers):
                if not can_carry(prior, method, terms, shape):
                    raise UserError(
                        f"{where}: priors[{j}] = {PRIORS.name(named)} does not suit regularisers[{k}], but a "
                        "search combines any two; remove one of them"
                    )
