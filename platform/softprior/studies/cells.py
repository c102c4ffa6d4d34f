"""The cells of a grid, a method on a task each, and the specs of their trials."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from softprior.inputs.specs import StudySpec, TrialSpec
from softprior.methods import METHODS, Method
from softprior.priors import PRIORS, Prior, assignment
from softprior.regularisers import REGULARISERS, Regulariser
from softprior.studies.components import Components
from softprior.studies.parts import Parts
from softprior.tasks import TASKS, Task


class Start(NamedTuple):
    """A prior with what it is trained with, and the fingerprint of the files that both read."""

    prior: Prior
    regularisers: list[Regulariser]
    files: str | None


class Cell(NamedTuple):
    """A method on a task, what can start it, and the corrections that concern its trials.

    Attributes:
        named: the method as the study names it, without what follows from the task.
    """

    method: Method
    named: Method
    task: Task
    starts: list[Start]
    corrections: tuple[str, ...]

    def components(self, also: Sequence[Task]) -> Components:
        """Those of its trials, which are measured on other tasks too."""
        return Components(
            {TASKS.entry(task).canonical(): task for task in (self.task, *also)},
            {METHODS.entry(self.method).canonical(): self.method},
            {PRIORS.entry(start.prior).canonical(): assignment(start.prior) for start in self.starts},
        )

    def trials(self, study: StudySpec, parts: Parts, fingerprint: str) -> list[TrialSpec]:
        """Its trials: one without a trained prompt, or one for each start, rate and seed."""
        called = parts.called
        task, data = called.entry(TASKS, self.task), self.task.fingerprint()
        where = TASKS.paths(self.task, "task")
        entries = {entry.canonical(): entry for entry in map(TASKS.entry, parts.also)}
        evaluation = study.evaluation.model_copy(
            update={"also": tuple(entries.values()), "twin": False, "reordered": 0}
        )
        code = {*TASKS.origins(self.task), *METHODS.origins(self.method)}

        common = {
            "model": study.model.id,
            "model_fingerprint": fingerprint,
            "corrections": self.corrections,
            "dtype": study.model.dtype,
            "method": called.entry(METHODS, self.method, self.named),
            "task": task,
            "data_fingerprint": data,
            "paths": where,
            "code": tuple(sorted(code)),
            "evaluation": evaluation,
        }
        if not self.method.trained:
            untrained = dict.fromkeys(("prior", "rate", "seed", "training"))
            return [TrialSpec.model_validate({**common, **untrained})]
        training = study.training.for_task(TASKS.name(self.task), task.name)
        trials = []
        for start in self.starts:
            terms = sorted(start.regularisers, key=lambda term: REGULARISERS.entry(term).canonical())
            found = [REGULARISERS.paths(term, f"regularisers.{i}") for i, term in enumerate(terms)]
            others = {*PRIORS.origins(start.prior), *chain(*map(REGULARISERS.origins, terms))}
            started = {
                **common,
                "code": tuple(sorted(code | others)),
                "prior": called.entry(PRIORS, start.prior),
                "prior_fingerprint": start.files,
                "regularisers": tuple(called.entry(REGULARISERS, term) for term in terms),
                "paths": (*where, *PRIORS.paths(start.prior, "prior"), *chain(*found)),
                "pairing": study.pairing,
                "training": training,
            }
            trials += [
                TrialSpec.model_validate({**started, "rate": rate, "seed": seed})
                for rate in study.rates
                for seed in study.seeds
            ]
        return trials
