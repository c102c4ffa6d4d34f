"""Early stopping: Ray's successive halving, fed point by point, and with what earlier runs reported."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from softprior.labels import labels
from softprior.provenance import code
from softprior.records import Record, Score, StepPoint, save_record
from softprior.results import StudyFolder
from softprior.specs import TrialSpec
from softprior.studies.estimate import trial_cost
from softprior.studies.search.plan import SearchPlan
from softprior.studies.search.proposals import Proposals
from softprior.training.optimizer import schedule

TOKENS, LOSS = "tokens", "validation_loss"
PENALTY = "train_penalty_"


class _Named(NamedTuple):
    """What successive halving needs of a trial. Tune's own ids are new in every run."""

    trial_id: str


class Rungs(FIFOScheduler):
    """Stops trials whose validation loss is not among the best at a rung, and leaves their records.

    Every point of a report is judged in order, so that what is stopped does not depend on how many points
    a report happens to hold. A point is stored with the proposal after it was judged, and after the record
    that a stop leaves: one that was cut off in between comes again, or is read off the record.
    """

    def __init__(self, plan: SearchPlan, folder: StudyFolder, proposals: Proposals) -> None:
        """Rebuilds the rungs from what the proposals were reported."""
        super().__init__()
        assert plan.search.early_stopping is not None
        asha = plan.search.early_stopping.asha
        self._halving = ASHAScheduler(
            TOKENS,
            LOSS,
            "min",
            max_t=plan.largest(),
            grace_period=asha.grace,
            reduction_factor=asha.reduction,
            stop_last_trials=False,
        )
        self._folder = folder
        self._proposals = proposals
        self._points: dict[str, dict[int, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
        specs = {trial.id: trial for trial in plan.trials}
        for trial, curve in proposals.curves().items():
            for step in sorted(curve) if trial in specs else ():
                self._judge(specs[trial], step, curve[step])

    def __reduce__(self) -> tuple[Any, ...]:
        return FIFOScheduler, ()  # as for `Proposals`

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:  # noqa: ARG002
        spec = TrialSpec.model_validate_json(trial.config["trial"])
        try:
            stop = self._hears(spec, result.get("points", []))
        except Exception as error:  # of a storage or a disk; Tune would end every trial for it
            self._proposals.give_up(error)
            stop = False
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def _hears(self, spec: TrialSpec, points: Sequence[dict[str, Any]]) -> bool:
        """Judges a trial's new points; whether one of them stops it."""
        for point in points:
            self._points[spec.id][point["step"]] |= point
            loss, step = point.get(LOSS), point["step"]
            if spec.training is None or loss is None or not step or not math.isfinite(loss):
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
        if spec.id not in self._halving._trial_info:
            self._halving.on_trial_add(None, named)
        result = {TOKENS: _tokens(spec, step), LOSS: loss}
        return bool(self._halving.on_trial_result(None, named, result) == TrialScheduler.STOP)

    def _leave_record(self, spec: TrialSpec, last: int) -> None:
        """The record of a trial that its process will not write any more: it waits for our word to go on."""
        points = self._points.pop(spec.id)
        kept = [point for step, point in sorted(points.items()) if step <= last]
        record = Record(
            id=spec.id,
            label=labels([spec])[spec.id],
            spec=spec,
            status="stopped",
            error=f"stopped early at step {last}: others had a lower validation loss by then",
            steps=tuple(_step(spec, point) for point in kept if "train_loss" in point),
            validation=tuple(_score(point) for point in kept if LOSS in point),
            environment=code(),
        )
        save_record(self._folder.record(spec.id), record)
        self._folder.checkpoint(spec.id).unlink(missing_ok=True)


def _tokens(spec: TrialSpec, step: int) -> int:
    assert spec.training is not None
    return trial_cost(spec).trained * step // spec.training.steps


def _step(spec: TrialSpec, point: dict[str, Any]) -> StepPoint:
    assert spec.training is not None
    assert spec.rate is not None
    step = point["step"]
    return StepPoint(
        step=step,
        loss=point["train_loss"],
        rate=spec.rate.value * schedule(step - 1, spec.training),
        gradient=point["train_gradient"],
        moved=point["train_moved"],
        penalties={k.removeprefix(PENALTY): v for k, v in point.items() if k.startswith(PENALTY)},
    )


def _score(point: dict[str, Any]) -> Score:
    return Score(
        step=point["step"],
        loss=point[LOSS],
        accuracy=point.get("validation_accuracy"),
        examples=point["examples"],
        tokens=point["tokens"],
    )
