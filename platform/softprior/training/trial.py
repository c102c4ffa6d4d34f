"""The trial: sample a prompt from its prior, train it, evaluate it, and leave a record and a posterior."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from softprior.prompt import Place
from softprior.results.background import save_background
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Vectors
from softprior.results.records import Record
from softprior.results.sanity import Check
from softprior.tasks import TASKS
from softprior.training import outcome
from softprior.training.also import other_tasks
from softprior.training.checkpoint import TrialState, load_checkpoint, save_checkpoint
from softprior.training.continuing import earlier, kept_checkpoint
from softprior.training.cost import forget_peaks
from softprior.training.evaluation import Evaluation
from softprior.training.events import Notice, Phase, Report, Step, Validation
from softprior.training.loop import Loop
from softprior.training.optimizer import PromptOptimizer
from softprior.training.penalties import Penalties
from softprior.training.sanity import Sanity
from softprior.training.setup import Setup
from softprior.training.source import vocabulary
from softprior.training.starts import Start, starts_of
from softprior.training.travel import geometry_of
from softprior.training.untrained import Untrained


@dataclass
class Trial:
    """One trial on a loaded model.

    Attributes:
        setup: what decides the result, and the model.
        folder: where record, posterior and checkpoint go.
        report: receives the progress.
        state: results so far, also of a trial that failed.
    """

    setup: Setup
    folder: StudyFolder
    report: Report
    state: TrialState = field(default_factory=TrialState)

    def run(self) -> Record:
        """Trains and evaluates, or continues from the checkpoint; writes the posterior, then the record.

        Raises:
            TrialFailedError: the loss or the gradient is not finite.
            UserError: task, prior and model do not fit together.
        """
        started = time.monotonic()
        forget_peaks()
        setup, spec = self.setup, self.setup.spec
        self.report(Phase(0, f"reading {TASKS.named(spec.task)}"))
        with self.state.meter.phase("data"):
            setup.check_lengths()
        with self.state.meter.phase("prior"):
            starts = self._sample()
        initial = {place: start.vectors for place, start in starts.items()}
        facts = {place.name: start.facts for place, start in starts.items()}
        optimizer = None
        if spec.training is not None and spec.rate is not None:
            assert spec.seed is not None
            network = setup.method.network()
            if spec.regularisers:
                self.report(Phase(0, "preparing regularisers"))
            optimizer = PromptOptimizer(initial, spec.rate, spec.training, network, spec.seed)
            penalties = Penalties(spec.regularisers, starts, setup.prepared.train.labels)
            del starts  # the distributions of sixty places may contain a gigabyte of real vectors
            self._resume(optimizer)
        state = self.state
        start = Untrained(initial, self.folder, state, self.report, not spec.evaluation.own_start)
        began = started - state.seconds - state.meter.waited
        if not state.validation:
            self._validate(initial, start)
        if optimizer is not None:
            self.report(Phase(state.step, "training"))
            loop = Loop(setup, optimizer, penalties, initial, self._validate, self.report)
            for _ in loop.run(state):
                state.seconds = time.monotonic() - began - state.meter.waited
                with state.meter.phase("checkpoints"):
                    self._checkpoint(optimizer)
        final = initial if optimizer is None else optimizer.vectors

        self.report(Phase(state.step, "test"))
        untrained = None if optimizer is None else start
        with state.meter.phase("test"):
            test = setup.evaluator.full(final, setup.prepared.test, state.step, untrained)
        with state.meter.phase("other tasks"):
            also = setup.others.measure_all(other_tasks(spec), final, state.step, self.report)
        probes = setup.prober.at_end(initial, final, state, self.report)
        state.seconds = time.monotonic() - began - state.meter.waited
        with state.meter.phase("geometry"):
            places = {} if optimizer is None else geometry_of(setup, initial, final, optimizer)
        record = outcome.record_of(setup, state, facts, places, test, also)
        if optimizer is not None:
            outcome.save_posterior_of(self.folder, setup, record, initial, final, state.snapshots)
        with state.meter.phase("sanity"):
            sanity = self._sanity(final, test)
        cost = state.meter.cost(0 if optimizer is None else optimizer.values)
        record = record.model_copy(update={"cost": cost, "sanity": sanity, "probes": probes})
        outcome.save_record_and_rows(self.folder, record, test, also)
        self.folder.checkpoint(spec.id).unlink(missing_ok=True)
        return record

    def _sample(self) -> dict[Place, Start]:
        """A draw of the prior at every place, for the trial's seed."""
        setup, spec = self.setup, self.setup.spec
        if spec.prior is None or spec.seed is None:
            return {}
        save_background(self.folder, spec.model_fingerprint, vocabulary(setup.host, setup.tokenizer))
        return starts_of(spec, setup.host, setup.tokenizer, setup.method, self.report)

    def _resume(self, optimizer: PromptOptimizer) -> None:
        spec = self.setup.spec
        found = load_checkpoint(self.folder.checkpoint(spec.id), spec.id)
        before = found or earlier(self.folder, spec)
        if isinstance(before, str):
            self.report(Notice(0, before))
        if before is None or isinstance(before, str) or not optimizer.fits(before[1]):
            return
        spent = self.state.meter
        self.state, moments = before
        self.state.meter.add(spent)
        optimizer.restore(moments)
        if found is None and self.state.continued is not None:
            step = self.state.continued.step
            self.report(Notice(step, f"goes on from step {step:,} of an earlier trial", again=True))
        # The receiver may have missed what was reported to a process that died; what it already has it
        # skips.
        for point in self.state.steps:
            self.report(Step(point, optimizer.training.steps, resumed=True))
        for score in self.state.validation:
            self.report(Validation(score))

    def _validate(self, vectors: Vectors, start: Untrained | None = None) -> None:
        state, split, evaluator = self.state, self.setup.prepared.validation, self.setup.evaluator
        self.report(Phase(state.step, "validation"))
        with state.meter.phase("validation"):
            if start is None:
                score = evaluator.loss(vectors, split, state.step)
            else:
                score = evaluator.start(start, split)
        state.validation.append(score)
        self.report(Validation(score))

    def _checkpoint(self, optimizer: PromptOptimizer) -> None:
        state, training, spec = self.state, optimizer.training, self.setup.spec
        if training.keep_checkpoint and state.step == training.steps:
            save_checkpoint(kept_checkpoint(self.folder, spec), spec.id, state, optimizer.state())
        if state.step % training.checkpoint == 0 or state.step == training.steps:
            save_checkpoint(self.folder.checkpoint(spec.id), spec.id, state, optimizer.state())

    def _sanity(self, final: Vectors, test: Evaluation) -> tuple[Check, ...]:
        setup, spec = self.setup, self.setup.spec
        self.report(Phase(self.state.step, "sanity"))
        model = (setup.host, setup.tokenizer, setup.task, spec.evaluation)
        sanity = Sanity(*model, setup.evaluator, spec.dtype)
        path = self.folder.posterior(spec.id) if final else None
        return sanity.checks(final, setup.prepared, test, self.state.steps, path)
