"""What a study will cost, before it runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch

from softprior.assets.models import KnownModel
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

BLOCK_SECONDS = 1.5e-3
"""Seconds per block and pass besides the products on a CPU, from steps of `tiny` on a few tokens
(docs/log.md). It is most of the time that small models and short texts take. `GPU_FLOPS` includes it."""

WIDE = 576
"""Hidden dimensions of SmolLM2, with which `CORE_FLOPS` was measured. Operations of a narrower model are less
efficient: with the 128 dimensions of `tiny` a core reaches 0.3 to 0.5 of it (docs/log.md)."""

NOTHING: Mapping[str, int] = {}
"""Where no trial goes on from another one."""


class Cost(NamedTuple):
    """Work of one trial or of several.

    Attributes:
        trained: positions that go forward and backward.
        evaluated: positions that go forward only.
        passes: number of passes of batches through the model; a backward pass counts as two.
    """

    trained: int
    evaluated: int
    passes: int = 0

    def __add__(self, other: object) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(*map(sum, zip(self, other, strict=True)))

    def times(self, count: int) -> Cost:
        """This work, done `count` times."""
        return Cost(*(count * part for part in self))

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
    tests = [_tested(tested, evaluation, components) for tested in (task, *components.others(trial))]
    tested = sum(tests, Cost(0, 0))
    if trial.training is None:
        return validation + tested
    training, prompt = trial.training, components.method(trial).count()
    rows = min(training.batch, components.examples(task, "train"))
    left = training.steps - begun
    texts = rows * components.positions(task, "train")
    batches = left * training.accumulate
    trained = Cost(round(batches * (texts + prompt)), 0, 3 * batches)
    points = round(min(training.curve, training.steps) * left / training.steps) + (begun == 0)
    untrained = _loss(task, "test", evaluation, components)
    return trained + validation.times(points) + untrained + tested + _probed(trial, components)


def other_cost(trials: Iterable[TrialSpec], components: Components) -> Cost:
    """Work of measuring finished trials on all their other tasks, and of probing them."""
    trials = list(trials)
    others = [(other, trial.evaluation) for trial in trials for other in components.others(trial)]
    probed = [_probed(trial, components) for trial in trials]
    return sum([*(_tested(*other, components) for other in others), *probed], Cost(0, 0))


def _probed(trial: TrialSpec, components: Components) -> Cost:
    """Those of a trial's probes that its prompt can have."""
    task, method = components.task(trial), components.method(trial)
    probes = [probe for probe in probes_of(trial) if probe in ANY_PROMPT or "residual" in method.kinds]
    examples = min(EXAMPLES, trial.evaluation.examples, components.examples(task, "test"))
    passes = sum(PASSES[probe] for probe in probes)
    texts = examples * components.positions(task, "test")
    return Cost(0, round(passes * texts), passes * _batches(examples, trial.evaluation))


def _loss(task: Task, split: Split, evaluation: EvaluationSpec, components: Components) -> Cost:
    """A loss on a split."""
    examples = min(evaluation.examples, components.examples(task, split))
    return Cost(0, round(examples * components.positions(task, split)), _batches(examples, evaluation))


def _tested(task: Task, evaluation: EvaluationSpec, components: Components) -> Cost:
    """A test split: the loss, the control and the answers."""
    loss = _loss(task, "test", evaluation, components)
    parts = [loss]
    if evaluation.context_shuffle and task.swaps_contexts:
        parts.append(loss)
    if task.options():
        parts.append(loss.times(task.options()))
    elif task.generates:
        generated, written = min(evaluation.generate, components.examples(task, "test")), task.new_tokens // 2
        texts = generated * (components.positions(task, "test") + written)
        parts.append(Cost(0, round(texts), _batches(generated, evaluation) * (1 + written)))
    return sum(parts, Cost(0, 0))


def _batches(examples: int, evaluation: EvaluationSpec) -> int:
    """Number of batches of an evaluation."""
    return math.ceil(examples / evaluation.batch)


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


def hours(cost: Cost, model: KnownModel, cpus: int, gpus: float) -> float | None:
    """Hours of machine time for this work; None while the model's size is not known here."""
    if model.parameters is None:
        return None
    products = cost.flops(model.parameters)
    if gpus:
        return products / (gpus * GPU_FLOPS) / 3600
    blocks, width = (0, None) if model.shape is None else (model.shape.blocks, model.shape.hidden)
    narrow = min(1.0, math.sqrt((width or WIDE) / WIDE))
    return (products / (cpus * narrow * CORE_FLOPS) + cost.passes * blocks * BLOCK_SECONDS) / 3600


def trials_at_once(resources: ResourcesSpec) -> int:
    """Number of trials Ray runs at a time on this machine; 0 if it lacks the resources for one."""
    room = machine_cpus() // resources.cpus
    if resources.gpus:
        room = min(room, math.floor(torch.cuda.device_count() / resources.gpus))
    return room if resources.concurrent is None else min(room, resources.concurrent)
