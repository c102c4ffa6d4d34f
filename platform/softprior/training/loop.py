"""The optimizer's steps of one trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from softprior.results.posteriors import Vectors
from softprior.results.records import StepPoint
from softprior.statistics import geometry
from softprior.tasks.batching import training_batches
from softprior.training.checkpoint import TrialState
from softprior.training.chosen_steps import evenly, log_spaced
from softprior.training.cost import TRAINING
from softprior.training.events import Notice, Report, Step
from softprior.training.failure import require_finite
from softprior.training.gradient import gradient
from softprior.training.optimizer import PromptOptimizer, schedule
from softprior.training.penalties import Penalties
from softprior.training.reordered import order_seed
from softprior.training.setup import Setup

STILL = (
    "the gradient of the first step is exactly zero: the loss does not depend on the vectors there; choose "
    "other blocks, another method or another prior"
)
"""What is said of a trial that at most a regulariser or weight decay moves."""


@dataclass(frozen=True)
class Loop:
    """What the steps of a trial work on.

    Attributes:
        setup: the trial's spec, model and examples.
        optimizer: holds the vectors; it may have taken steps before.
        penalties: the terms of the trial's regularisers.
        initial: the vectors before the first step.
        validate: adds a point to the validation curve.
        report: receives the progress.
    """

    setup: Setup
    optimizer: PromptOptimizer
    penalties: Penalties
    initial: Vectors
    validate: Callable[[Vectors], None]
    report: Report

    def run(self, state: TrialState) -> Iterator[None]:
        """Takes the steps that `state` lacks; yields after each."""
        training = self.optimizer.training
        train = self.setup.prepared.train
        order = training_batches(train.lengths, training.batch, order_seed(self.setup.spec))
        batches = islice(order, state.step * training.accumulate, None)
        curve = evenly(training.steps, training.curve)
        kept = log_spaced(training.steps, training.snapshots)
        while state.step < training.steps:
            with state.meter.phase(TRAINING):
                point = self._step(state, islice(batches, training.accumulate))
            state.steps.append(point)
            self.report(Step(point, training.steps))
            if point.step == 1 and point.gradient == 0:
                self.report(Notice(state.step, STILL))
            if state.step in kept:
                vectors = self.optimizer.vectors
                state.snapshots[state.step] = {p: v.detach().clone() for p, v in vectors.items()}
            if state.step in curve:
                self.validate(self.optimizer.vectors)
            yield

    def _step(self, state: TrialState, batches: Iterator[list[int]]) -> StepPoint:
        """One update, over accumulated batches."""
        step, optimizer = state.step, self.optimizer
        vectors, training = optimizer.vectors, optimizer.training
        found = gradient(self.setup.host, self.setup.prepared.train, training, vectors, batches)
        state.meter.positions += found.positions
        require_finite(step + 1, "loss", found.loss)
        penalties, slopes = self.penalties.values(vectors)
        for name, value in penalties.items():
            require_finite(step + 1, f"regulariser {name}", value)
        added = {place: found.at[place] + slope.to(found.at[place]) for place, slope in slopes.items()}
        norm = optimizer.step(step, found.at | added)
        require_finite(step + 1, "gradient's norm", norm)
        state.step = step + 1
        ways = [geometry.distance_moved(self.initial[p], v).mean() for p, v in optimizer.vectors.items()]
        moved = float(np.mean([float(way) for way in ways]))
        require_finite(step + 1, "distance the vectors moved", moved)
        return StepPoint(
            step=state.step,
            loss=found.loss,
            labels=found.labels,
            rate=optimizer.rate.value * schedule(step, training),
            gradient=norm,
            moved=moved,
            penalties=penalties,
        )
