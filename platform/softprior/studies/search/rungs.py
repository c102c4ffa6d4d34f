"""Early stopping: Ray's successive halving, fed point by point and with the reports of earlier runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from softprior.inputs.specs import TrialSpec
from softprior.results.folder import StudyFolder
from softprior.results.provenance import code
from softprior.results.records import Record, Score, StepPoint, save_record
from softprior.studies.reporting import EVENTS
from softprior.studies.search.plan import SearchPlan
from softprior.studies.search.proposals import Proposals
from softprior.training.events import Event, Step, Validation
from softprior.training.recognised import own_label

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial as TuneTrial

STEP, LOSS = "step", "validation_loss"
"""What Tune's successive halving is given."""


class _Named(NamedTuple):
    """What successive halving needs to know of a trial. Tune's own ids change with every run."""

    trial_id: str


class Rungs(FIFOScheduler):
    """Stops trials whose validation loss is not among the best at a rung, and leaves their records.

    Rungs are optimizer steps, the unit of a trial's budget: what the search compares in the end is the loss
    after that many steps. In tokens, a trial with large batches would be judged earlier in its schedule.

    Every point of a report is judged in order, so that what is stopped does not depend on how many points
    a report happens to contain. A point is stored with the proposal after it was judged, and after the record
    that a stop leaves: one lost in between is reported again, or read from the record.
    """

    def __init__(self, plan: SearchPlan, folder: StudyFolder, proposals: Proposals) -> None:
        """Rebuilds the rungs from the points stored with the proposals."""
        super().__init__()  # type: ignore[no-untyped-call]
        assert plan.search.early_stopping is not None
        asha = plan.search.early_stopping.asha
        self._halving: Any = ASHAScheduler(
            STEP,
            LOSS,
            "min",
            max_t=plan.largest(),
            grace_period=asha.grace,
            reduction_factor=asha.reduction,
            stop_last_trials=False,
        )
        self._added: set[str] = set()
        self._folder = folder
        self._proposals = proposals
        self._steps: dict[str, dict[int, StepPoint]] = defaultdict(dict)
        self._curves: dict[str, dict[int, Score]] = defaultdict(dict)
        specs = {trial.id: trial for trial in plan.trials}
        for trial, curve in proposals.curves().items():
            for step in sorted(curve) if trial in specs else ():
                self._judge(specs[trial], step, curve[step])

    def __reduce__(self) -> tuple[object, ...]:
        return FIFOScheduler, ()  # as for `Proposals`

    def on_trial_result(
        self,
        tune_controller: TuneController,  # noqa: ARG002
        trial: TuneTrial,
        result: dict[str, list[Event]],
    ) -> str:
        spec = TrialSpec.model_validate_json(trial.config["trial"])
        try:
            stop = self._hears(spec, result.get(EVENTS, []))
        except Exception as error:  # of a storage or a disk; Tune would end every trial for it
            self._proposals.give_up(error)
            stop = False
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def _hears(self, spec: TrialSpec, events: Sequence[Event]) -> bool:
        """Judges a trial's new points and returns whether one of them stops it."""
        for event in events:
            if isinstance(event, Step):
                self._steps[spec.id][event.step] = event.point
            if not isinstance(event, Validation):
                continue
            self._curves[spec.id][event.step] = event.score
            loss, step = event.score.loss, event.step
            if spec.training is None or not step or not math.isfinite(loss):
                continue
            stop = self._judge(spec, step, loss) and step < spec.training.steps
            if stop:
                self._leave_record(spec, step)
            for number in self._proposals.numbers(spec.id):
                self._proposals.report(number, step, loss)
            if stop:
                return True
        return False

    def _judge(self, spec: TrialSpec, step: int, loss: float) -> bool:
        """Whether a point is not good enough for its rung; it counts there from now on."""
        named = _Named(spec.id)
        if spec.id not in self._added:
            self._added.add(spec.id)
            self._halving.on_trial_add(None, named)
        result = {STEP: step, LOSS: loss}
        return bool(self._halving.on_trial_result(None, named, result) == TrialScheduler.STOP)

    def _leave_record(self, spec: TrialSpec, last: int) -> None:
        """The record of a stopped trial, whose process cannot write it: it waits for leave to continue."""
        steps, curve = self._steps.pop(spec.id, {}), self._curves.pop(spec.id)
        record = Record(
            id=spec.id,
            label=own_label(spec),
            spec=spec,
            status="stopped",
            error=f"stopped early at step {last}: others had a lower validation loss by then",
            steps=tuple(steps[step] for step in sorted(steps) if step <= last),
            validation=tuple(curve[step] for step in sorted(curve) if step <= last),
            environment=code(),
        )
        save_record(self._folder.record(spec.id), record)
        self._folder.checkpoint(spec.id).unlink(missing_ok=True)
