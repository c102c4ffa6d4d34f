"""Which trial Tune starts next on the workers of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial


class Turns(FIFOScheduler):
    """Trials in their order, but a free worker leaves those alone whose own workers are just starting.

    A worker needs seconds to start. If the trials of another one are shorter, Tune gives it the trial that
    waits for the new worker, ends that one before it has begun, and starts the next: in a study of 100 short
    trials this took more than half of the processor time of all workers.

    Args:
        places: number of trials that run at a time.
    """

    def __init__(self, places: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray's
        self._places = places
        self._started = 0
        """The largest number of trials that were seen running at a time: as many workers are there."""
        self._ended = 0
        """Number of trials, from the first on, that have ended: thousands need not be looked at each time."""

    def choose_trial_to_run(self, tune_controller: Any) -> TuneTrial | None:
        every: list[TuneTrial] = tune_controller.get_trials()
        while self._ended < len(every) and every[self._ended].status in ("TERMINATED", "ERROR"):
            self._ended += 1
        trials = every[self._ended :]
        self._started = max(self._started, sum(trial.status == "RUNNING" for trial in trials))
        waiting = [trial for trial in trials if trial.status == "PENDING"]
        if not waiting:
            return None
        starting = self._places - self._started if self._started else 0
        # If nothing else is left, a worker that is there is faster than one that starts.
        return waiting[min(max(starting, 0), len(waiting) - 1)]
