"""The results folder of an activations run: what stands where."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from softprior.activations.state import Partial


@dataclass(frozen=True)
class RunFolder:
    """Paths inside `results/<name>`.

    Attributes:
        root: absolute.
    """

    root: Path

    @property
    def store(self) -> Path:
        """The statistics store, which is the result."""
        return self.root / "store"

    @property
    def plan(self) -> Path:
        """What is to be done; a folder belongs to one plan."""
        return self.root / "plan.json"

    @property
    def summary(self) -> Path:
        """What was done: spec, versions, fingerprints, coverage. Written last."""
        return self.root / "activations.json"

    @property
    def lock(self) -> Path:
        """Held by the process that runs it."""
        return self.root / ".lock"

    @property
    def parts(self) -> Path:
        """Everything that goes when the store is whole."""
        return self.root / "parts"

    def partial(self, task: str, worker: str) -> Path:
        """What one worker has added up of a task."""
        return self.parts / f"{_name(task)}.{worker}.safetensors"

    def partials(self, task: str) -> list[Partial]:
        """What all workers have added up of a task.

        Raises:
            UserError: a file is damaged.
        """
        return [Partial(path) for path in sorted(self.parts.glob(f"{_name(task)}.*.safetensors"))]

    def calibration(self, task: str) -> Path:
        """Median norms by site."""
        return self.parts / f"{_name(task)}.medians.json"

    def beat(self, worker: str) -> Path:
        """How far a worker is."""
        return self.parts / f"{worker}.beat.json"


def _name(task: str) -> str:
    """A task's name without dots, so that no pattern for one matches another's."""
    return hashlib.sha256(task.encode()).hexdigest()[:12]
