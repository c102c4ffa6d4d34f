"""What is recorded with every result: versions, code, machine."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

import torch

import softprior
from softprior.models.protocol import ModelInfo
from softprior.results.provenance import SOURCES, code

PACKAGES = (
    "torch",
    "transformers",
    "datasets",
    "ray",
    "mlflow",
    "optuna",
    "deepspeed",
    "scikit-learn",
    "safetensors",
)


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of Python, softprior and the libraries that can change a number."""
    found = {"python": platform.python_version(), "softprior": softprior.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def environment(
    seconds: float, model: ModelInfo | None, sources: Sequence[str] = (SOURCES,)
) -> dict[str, object]:
    """Versions, code and machine of this process, and how long the trial worked.

    Args:
        seconds: of work, in all processes that the trial has had.
        model: where and how the model was computed; None if it was never loaded.
        sources: of all code that had a part in it, where a trial continued from a checkpoint of other code.
    """
    return {
        "versions": versions(),
        **code(),
        "sources": "+".join(sources),
        "machine": platform.node(),
        "threads": torch.get_num_threads(),
        **({} if model is None else _computed(model)),
        "seconds": round(seconds, 2),
    }


def _computed(model: ModelInfo) -> dict[str, object]:
    """How the model was computed; what records once did not have is there only where it plays a part."""
    found: dict[str, object] = {"device": model.device, "kernels": model.kernels}
    return found | ({"frozen_cache": True} if model.frozen_cache else {})
