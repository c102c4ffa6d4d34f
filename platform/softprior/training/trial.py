"""The trial: sample a prompt from its prior, train it, evaluate it, and leave a record and a posterior."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np
from jaxtyping import Float
from torch import Tensor

from softprior.assets.tokens import Tokenizer, in_front, require_rows
from softprior.inputs.specs import TrialSpec
from softprior.liveness import alive
from softprior.methods import METHODS, Method
from softprior.models.protocol import FrozenLM
from softprior.prompt import Batch, Place, Shape, collate
from softprior.results.background import save_background
from softprior.results.examples import save_examples
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Posterior, Vectors, save_posterior
from softprior.results.records import PlaceGeometry, Record, StepPoint, save_record
from softprior.results.sanity import Check
from softprior.statistics import geometry
from softprior.tasks import TASKS, Task
from softprior.tasks.batching import batch_size, training_batches
from softprior.tasks.prepare import Prepared, prepare
from softprior.training.also import Others, OtherScore, other_tasks
from softprior.training.checkpoint import TrialState, load_checkpoint, save_checkpoint
from softprior.training.chosen_steps import evenly, log_spaced
from softprior.training.cost import TRAINING, forget_peaks
from softprior.training.environment import environment
from softprior.training.evaluation import Evaluation, Evaluator
from softprior.training.events import Notice, Phase, Report, Step, Validation
from softprior.training.failure import require_finite
from softprior.training.opening import require_input, require_opening
from softprior.training.optimizer import PromptOptimizer, schedule, schedule_sum
from softprior.training.penalties import Penalties
from softprior.training.probes import Prober
from softprior.training.recognised import own_label
from softprior.training.reordered import order_seed
from softprior.training.room import require_room
from softprior.training.sanity import Sanity
from softprior.training.source import SeenSource, vocabulary
from softprior.training.starts import Start, starts_of
from softprior.training.travel import place_geometry

STILL = (
    "the gradient of the first step is exactly zero: the loss does not depend on the vectors there; choose "
    "other blocks, another method or another prior"
)
"""What is said of a trial that at most a regulariser or weight decay moves."""


@dataclass
class Trial:
    """One trial on a loaded model.

    Attributes:
        spec: what decides the result.
        host, tokenizer: the frozen model.
        tokenizer_fingerprint: names tokenised examples in the cache.
        folder: where record, posterior and checkpoint go.
        report: receives the progress.
        progress: results so far, also of a trial that failed.
    """

    spec: TrialSpec
    host: FrozenLM
    tokenizer: Tokenizer
    tokenizer_fingerprint: str
    folder: StudyFolder
    report: Report
    progress: TrialState = field(default_factory=TrialState)
    _penalties: Penalties = field(init=False, repr=False)

    def run(self) -> Record:
        """Trains and evaluates, or continues from the checkpoint; writes the posterior, then the record.

        Raises:
            TrialFailedError: the loss or the gradient is not finite.
            UserError: task, prior and model do not fit together.
        """
        started = time.monotonic()
        forget_peaks()
        self.report(Phase(0, f"reading {self.spec.task.name}"))
        with self.progress.meter.phase("data"):
            self._check_lengths()
        with self.progress.meter.phase("prior"):
            starts = self._sample()
        initial = {place: start.vectors for place, start in starts.items()}
        facts = {place.name: start.facts for place, start in starts.items()}
        optimizer = None
        if self.spec.training is not None and self.spec.rate is not None:
            assert self.spec.seed is not None
            network = self.method.network()
            if self.spec.regularisers:
                self.report(Phase(0, "preparing regularisers"))
            optimizer = PromptOptimizer(initial, self.spec.rate, self.spec.training, network, self.spec.seed)
            self._penalties = Penalties(self.spec.regularisers, starts, self.prepared.train.labels)
            del starts  # the distributions of sixty places may contain a gigabyte of real vectors
            self._resume(optimizer)
        progress = self.progress
        before = progress.seconds
        if not progress.validation:
            self._validate(initial, progress)
        if optimizer is not None:
            self.report(Phase(progress.step, "training"))
            for _ in self._training(optimizer, initial, progress):
                progress.seconds = before + time.monotonic() - started
                self._checkpoint(optimizer, progress)
        final = initial if optimizer is None else optimizer.vectors

        self.report(Phase(progress.step, "test"))
        untrained = None if optimizer is None else initial
        with progress.meter.phase("test"):
            test = self._evaluator.full(final, self.prepared.test, progress.step, untrained)
        with progress.meter.phase("other tasks"):
            also = self.others.measure_all(other_tasks(self.spec), final, progress.step, self.report)
        probes = self.prober.at_end(initial, final, progress, self.report)
        progress.seconds = before + time.monotonic() - started
        with progress.meter.phase("geometry"):
            places = self._geometry(initial, final, optimizer)
        record = self._record(facts, places, test, also)
        if optimizer is not None:
            self._save_posterior(initial, final, facts, record.environment)
        with progress.meter.phase("sanity"):
            sanity = self._sanity(final, test)
        cost = progress.meter.cost(0 if optimizer is None else optimizer.values)
        record = record.model_copy(update={"cost": cost, "sanity": sanity, "probes": probes})
        # Before the record, which says how many there are.
        rows = {self.spec.task.canonical(): test.rows}
        rows |= {other.found.task.canonical(): other.rows for other in also}
        save_examples(self.folder.examples(self.spec.id), self.spec.id, rows)
        save_record(self.folder.record(self.spec.id), record)
        self.folder.checkpoint(self.spec.id).unlink(missing_ok=True)
        return record

    @cached_property
    def task(self) -> Task:
        return TASKS.component(self.spec.task)

    @cached_property
    def method(self) -> Method:
        return METHODS.component(self.spec.method)

    @cached_property
    def prepared(self) -> Prepared:
        return prepare(self.task, self.tokenizer, self.tokenizer_fingerprint)

    @cached_property
    def _prefix(self) -> list[int]:
        """Tokens of a written instruction."""
        text = self.method.text(self.task.instruction)
        return in_front(self.tokenizer, text) if text else []

    @cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator(self.host, self.tokenizer, self.task, self.spec.evaluation, self._prefix)

    @cached_property
    def others(self) -> Others:
        """What measures the trial's prompt on other tasks."""
        front = self.method.count() + len(self._prefix)
        loaded = (self.host, self.tokenizer, self.tokenizer_fingerprint)
        return Others(self.spec, *loaded, self._prefix, front)

    @cached_property
    def prober(self) -> Prober:
        """What probes the trial's finished prompt."""
        return Prober(self.spec, self.host, self.tokenizer, self._evaluator, self.prepared.test)

    def _check_lengths(self) -> None:
        """Every text the trial will read or write has to fit the model's positions and the prompt.

        Raises:
            UserError: the longest does not, one has a token that the embedding table does not have, or one
                does not begin with the token that the prompt is behind, or has nothing else to continue.
        """
        info, prepared = self.host.info(), self.prepared
        require_rows(self._prefix, info.vocabulary, "the words of the instruction")
        splits = (prepared.train, prepared.validation, prepared.test)
        name, front = self.spec.task.name, self.method.count() + len(self._prefix)
        require_room(info, self.spec.model, name, self.task, prepared, splits, front)
        shape = Shape(info.blocks, info.stack)
        require_opening(self.method, shape, name, splits, self.spec.model, self.tokenizer)
        require_input(self.method, shape, name, self.task, prepared.test)

    def _sample(self) -> dict[Place, Start]:
        """A draw of the prior at every place, for the trial's seed."""
        if self.spec.prior is None or self.spec.seed is None:
            return {}
        save_background(self.folder, self.spec.model_fingerprint, vocabulary(self.host, self.tokenizer))
        return starts_of(self.spec, self.host, self.tokenizer, self.method, self.report)

    def _resume(self, optimizer: PromptOptimizer) -> None:
        found = load_checkpoint(self.folder.checkpoint(self.spec.id), self.spec.id)
        if found is None:
            return
        spent = self.progress.meter
        self.progress, state = found
        self.progress.meter.add(spent)
        optimizer.restore(state)
        # The receiver may have missed what was reported to a process that died; what it already has it
        # skips.
        for point in self.progress.steps:
            self._report_step(point, resumed=True)
        for score in self.progress.validation:
            self.report(Validation(score))

    def _report_step(self, point: StepPoint, resumed: bool = False) -> None:
        assert self.spec.training is not None
        self.report(Step(point, self.spec.training.steps, resumed))

    def _training(self, optimizer: PromptOptimizer, initial: Vectors, progress: TrialState) -> Iterator[None]:
        """Runs the remaining steps; yields after each."""
        training = self.spec.training
        assert training is not None
        order = training_batches(self.prepared.train.lengths, training.batch, order_seed(self.spec))
        batches = islice(order, progress.step * training.accumulate, None)
        curve = evenly(training.steps, training.curve)
        kept = log_spaced(training.steps, training.snapshots)
        while progress.step < training.steps:
            with progress.meter.phase(TRAINING):
                point = self._step(optimizer, initial, progress, islice(batches, training.accumulate))
            progress.steps.append(point)
            self._report_step(point)
            if point.step == 1 and point.gradient == 0:
                self.report(Notice(progress.step, STILL))
            if progress.step in kept:
                progress.snapshots[progress.step] = {
                    p: v.detach().clone() for p, v in optimizer.vectors.items()
                }
            if progress.step in curve:
                self._validate(optimizer.vectors, progress)
            yield

    def _step(
        self,
        optimizer: PromptOptimizer,
        initial: Vectors,
        progress: TrialState,
        batches: Iterator[list[int]],
    ) -> StepPoint:
        """One update, over accumulated batches."""
        step, vectors = progress.step, optimizer.vectors
        loss, labels, gradient = self._gradient(vectors, batches)
        require_finite(step + 1, "loss", loss)
        penalties, slopes = self._penalties.values(vectors)
        for name, value in penalties.items():
            require_finite(step + 1, f"regulariser {name}", value)
        for place, slope in slopes.items():
            gradient[place] = gradient[place] + slope.to(gradient[place])
        norm = optimizer.step(step, gradient)
        require_finite(step + 1, "gradient's norm", norm)
        progress.step = step + 1
        ways = [float(geometry.distance_moved(initial[p], v).mean()) for p, v in optimizer.vectors.items()]
        moved = float(np.mean(ways))
        require_finite(step + 1, "distance the vectors moved", moved)
        assert self.spec.rate is not None
        assert self.spec.training is not None
        return StepPoint(
            step=progress.step,
            loss=loss,
            labels=labels,
            rate=self.spec.rate.value * schedule(step, self.spec.training),
            gradient=norm,
            moved=moved,
            penalties=penalties,
        )

    def _gradient(
        self, vectors: Vectors, batches: Iterator[list[int]]
    ) -> tuple[float, int, dict[Place, Float[Tensor, "P H"]]]:
        """A step's mean loss, its label tokens, and its gradient, over accumulated passes."""
        parts: list[Batch] = [collate([self.prepared.train.row(i) for i in indices]) for indices in batches]
        tokens = sum(int(batch.labels.sum()) for batch in parts)
        self.progress.meter.positions += sum(batch.positions for batch in parts)
        divisor = self._divisor(tokens)
        total = 0.0
        gradient: dict[Place, Float[Tensor, "P H"]] = {}
        for batch in parts:
            losses = self.host.loss(vectors, batch.weighted(batch.weights / divisor), grad=True)
            alive()
            assert losses.gradient is not None
            total += float(losses.nll.double().sum())
            for place, value in losses.gradient.items():
                gradient[place] = gradient[place] + value if place in gradient else value
        return total / tokens, tokens, gradient

    def _divisor(self, tokens: int) -> float:
        """The divisor of the sum over the labels of a step that has `tokens` of them.

        A batch contains every example with the same probability, so a step has on average as many labels as
        that many examples of mean length, whichever examples an epoch leaves out.
        """
        training, train = self.spec.training, self.prepared.train
        assert training is not None
        if training.normalisation == "step":
            return tokens
        return training.accumulate * batch_size(len(train), training.batch) * train.labels / len(train)

    def _validate(self, vectors: Vectors, progress: TrialState) -> None:
        self.report(Phase(progress.step, "validation"))
        with progress.meter.phase("validation"):
            score = self._evaluator.loss(vectors, self.prepared.validation, progress.step)
        progress.validation.append(score)
        self.report(Validation(score))

    def _checkpoint(self, optimizer: PromptOptimizer, progress: TrialState) -> None:
        training = self.spec.training
        assert training is not None
        if progress.step % training.checkpoint == 0 or progress.step == training.steps:
            path = self.folder.checkpoint(self.spec.id)
            save_checkpoint(path, self.spec.id, progress, optimizer.state())

    def _save_posterior(
        self, initial: Vectors, final: Vectors, facts: object, environment: Mapping[str, object]
    ) -> None:
        header: dict[str, object]
        header = {"trial": self.spec.id, "spec": self.spec.model_dump(mode="json"), "prior": facts}
        header |= {"model": self.host.info()._asdict(), "environment": environment}
        posterior = Posterior(header, initial, final, self.progress.snapshots)
        save_posterior(self.folder.posterior(self.spec.id), posterior)

    def _sanity(self, final: Vectors, test: Evaluation) -> tuple[Check, ...]:
        self.report(Phase(self.progress.step, "sanity"))
        model = (self.host, self.tokenizer, self.task, self.spec.evaluation)
        sanity = Sanity(*model, self._evaluator, self.spec.dtype)
        path = self.folder.posterior(self.spec.id) if final else None
        return sanity.checks(final, self.prepared, test, self.progress.steps, path)

    def _geometry(
        self, initial: Vectors, final: Vectors, optimizer: PromptOptimizer | None
    ) -> dict[str, PlaceGeometry]:
        if optimizer is None:
            return {}
        training = self.spec.training
        assert training is not None
        factors = schedule_sum(training.steps, training)
        direct = self.method.network() is None
        result = {}
        for place, start in initial.items():
            end = final[place]
            reach = geometry.reach(optimizer.rates[place], factors, end.shape[1]) if direct else None
            source = SeenSource(self.host, self.tokenizer, place, len(end))
            result[place.name] = place_geometry(source, start, end, reach)
        return result

    def _record(
        self,
        facts: Mapping[str, object],
        geometry: dict[str, PlaceGeometry],
        test: Evaluation,
        also: Sequence[OtherScore],
    ) -> Record:
        prepared = self.prepared
        data: dict[str, object] = {
            name: len(getattr(prepared, name)) for name in ("train", "validation", "test")
        }
        return Record(
            id=self.spec.id,
            label=own_label(self.spec),
            spec=self.spec,
            status="finished",
            steps=tuple(self.progress.steps),
            validation=tuple(self.progress.validation),
            untrained=test.untrained,
            test=test.score,
            also=tuple(other.found for other in also),
            examples=len(test.rows) + sum(len(other.rows) for other in also),
            geometry=geometry,
            prior=facts,
            data=data | prepared.facts(),
            predictions=tuple(test.predictions),
            environment=environment(self.progress.seconds, self.progress.sources),
        )
