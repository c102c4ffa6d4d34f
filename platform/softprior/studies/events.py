"""Ray Tune's events, passed on to the study's observers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ray import tune

from softprior.records import Record, load_record, save_record
from softprior.results import StudyFolder
from softprior.specs import TrialSpec
from softprior.studies.observers import Observer
from softprior.studies.worker import failed

logger = logging.getLogger(__name__)


class Events(tune.Callback):
    """Tells observers what Tune tells us, and writes the record of a trial whose process died."""

    def __init__(self, folder: StudyFolder, observers: Sequence[Observer], retries: int) -> None:
        self._folder = folder
        self._observers = observers
        self._retries = retries

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune pickles its callbacks for a restore that softprior never uses; threads and consoles
        # cannot be pickled and mean nothing elsewhere.
        return Events, (self._folder, (), self._retries)

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:  # noqa: ARG002
        spec = _spec(trial)
        for observer in self._observers:
            with _guarded(observer):
                observer.progress(spec, result.get("points", []))

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:  # noqa: ARG002
        self._ended(_spec(trial))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:  # noqa: ARG002
        self._ended(_spec(trial))

    def _ended(self, spec: TrialSpec) -> None:
        path = self._folder.record(spec.id)
        if not path.exists():
            reason = (
                f"its process died {self._retries + 1} times, for lack of memory perhaps, or its node does "
                "not share the results folder"
            )
            save_record(path, failed(spec, reason, {}))
        record: Record = load_record(path)
        for observer in self._observers:
            with _guarded(observer):
                observer.ended(record)


@contextmanager
def _guarded(observer: Observer) -> Iterator[None]:
    """Keeps an observer's failure (a full disk, a closed terminal) from failing the trial it hears of."""
    try:
        yield
    except Exception:
        logger.exception("%s failed; the study goes on", type(observer).__name__)


def _spec(trial: Any) -> TrialSpec:
    return TrialSpec.model_validate_json(trial.config["trial"])
