"""The results folder of a study: what stands where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.numpy import load_file, save_file
from torch import Tensor

from softprior.files import write_atomically
from softprior.seeding import torch_generator

BACKGROUND = 2000
"""Tokens of the vocabulary kept for figures."""


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


def save_background(folder: StudyFolder, fingerprint: str, vocabulary: Float[Tensor, "V H"]) -> None:
    """Keeps a fixed random sample of the vocabulary, once a model, so that figures need no model."""
    path = folder.background(fingerprint)
    if path.exists():
        return
    chosen = torch.randperm(len(vocabulary), generator=torch_generator(0, "figure background"))[:BACKGROUND]
    sample = vocabulary[chosen].float().numpy()
    write_atomically(path, lambda temporary: save_file({"vocabulary": sample}, temporary))


def load_background(folder: StudyFolder, fingerprint: str) -> Float[np.ndarray, "N H"] | None:
    """What `save_background` kept, or None."""
    path = folder.background(fingerprint)
    return load_file(path)["vocabulary"] if path.exists() else None
