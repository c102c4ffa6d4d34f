"""The results folder of a study: what stands where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StudyFolder:
    """Paths inside one study's results folder; ids are hexadecimal, so names are safe.

    Attributes:
        root: `results/<study name>`, absolute: trials run in directories of their own.
    """

    root: Path

    @property
    def study(self) -> Path:
        """Spec, versions, commit and fingerprints."""
        return self.root / "study.json"

    @property
    def table(self) -> Path:
        """One row a trial."""
        return self.root / "trials.parquet"

    @property
    def records(self) -> Path:
        """One JSON file a finished or failed trial."""
        return self.root / "records"

    @property
    def lock(self) -> Path:
        """Held by the process that runs the study."""
        return self.root / ".lock"

    @property
    def scratch(self) -> Path:
        """Ray Tune's own files; nothing in it is read again."""
        return self.root / ".tune"

    def background(self, fingerprint: str) -> Path:
        """A sample of a model's vocabulary, for figures."""
        return self.root / "vocabulary" / f"{fingerprint[:16]}.safetensors"

    def record(self, trial: str) -> Path:
        return self.records / f"{trial}.json"

    def posterior(self, trial: str) -> Path:
        return self.root / "posteriors" / f"{trial}.safetensors"

    def figure(self, trial: str) -> Path:
        return self.root / "figures" / f"{trial}.png"

    def error(self, trial: str) -> Path:
        """The traceback of an unexpected failure."""
        return self.root / "errors" / f"{trial}.txt"

    def checkpoint(self, trial: str) -> Path:
        return self.root / "checkpoints" / f"{trial}.safetensors"
