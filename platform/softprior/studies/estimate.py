"""What a study will cost, before it runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch

from softprior.inputs.specs import EvaluationSpec, ResourcesSpec, TrialSpec
from softprior.studies.components import Components
from softprior.studies.placement import machine_cpus
from softprior.tasks import Task
from softprior.tasks.base import Split
from softprior.training.probes import ANY_PROMPT, EXAMPLES, PASSES, probes_of
from softprior.training.threads import CORE_FLOPS

GPU_FLOPS = 100e12
"""The same for one GPU: what steps of 8 rows reach on an H200 with Llama-3.2-1B's shape in bfloat16. Steps of
32 rows reach 244e12, of 128 rows 272e12 (docs/log.md); other GPUs have not been measured."""

NOTHING: Mapping[str, int] = {}
"""Where no trial goes on from another one."""


class Cost(NamedTuple):
    """Work of one trial or of several.

    Attributes:
        trained: positions that go forward and backward.
        evaluated: positions that go forward only.
    """

    trained: int
    evaluated: int

    def __add__(self, other: object) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(self.trained + other.trained, self.evaluated + other.evaluated)

    def flops(self, parameters: int) -> float:
        """Two operations per weight and position forward, and as many again for the gradient at the input."""
        return 2.0 * parameters * (2 * self.trained + self.evaluated)


def trial_cost(trial: TrialSpec, components: Components, begun: int = 0) -> Cost:
    """Positions of a trial: its texts, and one prompt per pass (rows of a batch share it).

    Args:
        begun: steps that an earlier trial has trained, and this one goes on from.
    """
    task, evaluation = components.task(trial), trial.evaluation
    validation = _loss(task, "validation", evaluation, components)
    tested = _tested(task, evaluation, components)
    tested += sum(_tested(other, evaluation, components) for other in components.others(trial))
    if trial.training is None:
        return Cost(0, validation + tested)
    training, prompt = trial.training, components.method(trial).count()
    rows = min(training.batch, components.examples(task, "train"))
    left = training.steps - begun
    texts = rows * components.positions(task, "train")
    trained = round(left * training.accumulate * (texts + prompt))
    points = round(training.curve * left / training.steps) + (begun == 0)
    untrained = _loss(task, "test", evaluation, components)
    return Cost(trained, points * validation + untrained + tested + _probed(trial, components))


def other_cost(trials: Iterable[TrialSpec], components: Components) -> Cost:
    """Work of measuring finished trials on all their other tasks, and of probing them."""
    trials = list(trials)
    others = [(other, trial.evaluation) for trial in trials for other in components.others(trial)]
    probed = sum(_probed(trial, components) for trial in trials)
    return Cost(0, sum(_tested(*other, components) for other in others) + probed)


def _probed(trial: TrialSpec, components: Components) -> int:
    """Positions of those of a trial's probes that its prompt can have."""
    task, method = components.task(trial), components.method(trial)
    probes = [probe for probe in probes_of(trial) if probe in ANY_PROMPT or "residual" in method.kinds]
    examples = min(EXAMPLES, trial.evaluation.examples, components.examples(task, "test"))
    texts = examples * components.positions(task, "test")
    return round(sum(PASSES[probe] for probe in probes) * texts)


def _loss(task: Task, split: Split, evaluation: EvaluationSpec, components: Components) -> int:
    """Positions of a loss on a split."""
    texts = min(evaluation.examples, components.examples(task, split)) * components.positions(task, split)
    return round(texts)


def _tested(task: Task, evaluation: EvaluationSpec, components: Components) -> int:
    """Positions of a test split: the loss, the control and the answers."""
    loss = _loss(task, "test", evaluation, components)
    if task.options():
        answers = loss * task.options()
    elif task.generates:
        generated = min(evaluation.generate, components.examples(task, "test"))
        answers = round(generated * (components.positions(task, "test") + task.new_tokens // 2))
    else:
        answers = 0
    control = loss if evaluation.context_shuffle and task.swaps_contexts else 0
    return loss + control + answers


def total_cost(
    trials: Iterable[TrialSpec], components: Components, begun: Mapping[str, int] = NOTHING
) -> Cost:
    """Work of all trials.

    Args:
        begun: steps that trials go on from, by trial id.
    """
    found = (trial_cost(trial, components, begun.get(trial.id, 0) if begun else 0) for trial in trials)
    return sum(found, Cost(0, 0))


def work_in_words(cost: Cost, trials: Iterable[TrialSpec], components: Components) -> str:
    """The work of trials, and whether it rests on estimates of how long their texts are."""
    rough = "" if components.are_tokenised(trials) else ", an estimate until the texts are tokenised"
    return f"about {cost.trained:,} positions trained and {cost.evaluated:,} evaluated{rough}"


def hours(cost: Cost, parameters: int | None, cpus: int, gpus: float) -> float | None:
    """Hours of machine time for this work; None while the model's size is not known here."""
    if parameters is None:
        return None
    speed = gpus * GPU_FLOPS if gpus else cpus * CORE_FLOPS
    return cost.flops(parameters) / speed / 3600


def trials_at_once(resources: ResourcesSpec) -> int:
    """Number of trials Ray runs at a time on this machine; 0 if it lacks the resources for one."""
    room = machine_cpus() // resources.cpus
    if resources.gpus:
        room = min(room, math.floor(torch.cuda.device_count() / resources.gpus))
    return room if resources.concurrent is None else min(room, resources.concurrent)
