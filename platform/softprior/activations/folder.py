"""The results folder of an activations run: where each file is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from softprior.activations.state import Partial
from softprior.errors import UserError
from softprior.results.storage import Location, RemotePath, listed
from softprior.statistics.store import RUN_PLAN, RUN_SUMMARY


@dataclass(frozen=True)
class RunFolder:
    """Paths inside `results/<name>`.

    Attributes:
        root: absolute.
    """

    root: Location

    @property
    def pause(self) -> float:
        """Seconds between two notes of how far a worker is, and between looks: a bucket costs by request."""
        return 10.0 if isinstance(self.root, RemotePath) else 1.0

    @property
    def store(self) -> Location:
        """The statistics store, which is the result."""
        return self.root / "store"

    @property
    def plan(self) -> Location:
        """What is to be done; a folder belongs to one plan."""
        return self.root / RUN_PLAN

    @property
    def summary(self) -> Location:
        """What was done: spec, versions, fingerprints, coverage. Written last."""
        return self.root / RUN_SUMMARY

    @property
    def lock(self) -> Location:
        """The lock held by the process that runs it."""
        return self.root / ".lock"

    @property
    def parts(self) -> Location:
        """Everything that is removed when the store is complete."""
        return self.root / "parts"

    def partial(self, task: str, worker: str) -> Location:
        """One worker's sums of a task."""
        return self.parts / f"{_name(task)}.{worker}.safetensors"

    def partials(self, task: str) -> list[Partial]:
        """All workers' sums of a task.

        Raises:
            UserError: a file is damaged, or has sums of another task.
        """
        found = [Partial(path) for path in listed(self.parts, f"{_name(task)}.*.safetensors")]
        for partial in found:
            if partial.task != task:
                raise UserError(f"{partial.path} has sums of {partial.task}, not of {task}; remove it")
        return found

    def calibration(self, task: str) -> Location:
        """Median norms by site."""
        return self.parts / f"{_name(task)}.medians.json"

    def beat(self, worker: str) -> Location:
        """How far a worker is."""
        return self.parts / f"{worker}.beat.json"

    def beats(self) -> list[Location]:
        """How far all workers are."""
        return listed(self.parts, "*.beat.json")


def _name(task: str) -> str:
    """A task's name without dots, so that no pattern for one matches another's."""
    return hashlib.sha256(task.encode()).hexdigest()[:12]
