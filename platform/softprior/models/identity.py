"""What decides the bits of what a model computes: everything but its input."""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib.metadata import version

import torch

from softprior.models.protocol import ModelInfo
from softprior.results.provenance import SOURCES


def identity(info: ModelInfo, device: torch.device) -> list[object]:
    """JSON values that decide what a model makes of a row: weights, how they are computed, versions, machine.

    Args:
        device: what it runs on.
    """
    how = [info.fingerprint, info.dtype, info.device, info.kernels]
    return [*how, *_versions(), *_machine(device), SOURCES]


def computing(device: torch.device) -> str:
    """Machine, processor or GPU, and number of threads with which this process computes."""
    return ", ".join([*_machine(device), f"{torch.get_num_threads()} threads"])


def _machine(device: torch.device) -> list[str]:
    on_gpu = device.type == "cuda" and torch.cuda.is_available()  # not where replicas hold the model
    name = torch.cuda.get_device_name(device) if on_gpu else torch.backends.cpu.get_cpu_capability()
    return [platform.node(), platform.machine(), name]


@lru_cache(maxsize=1)
def _versions() -> tuple[str, ...]:
    return version("torch"), version("transformers")
