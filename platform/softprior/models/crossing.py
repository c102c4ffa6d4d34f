"""Conversion of values that are sent from one process to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from softprior.prompt import Batch, Prompt


def detached(prompt: Prompt | None) -> Prompt | None:
    """A prompt as it is sent: plain values, detached from automatic differentiation."""
    return None if prompt is None else {place: vectors.detach().cpu() for place, vectors in prompt.items()}


def on_cpu(value: object) -> Any:
    """The same value with every tensor in CPU memory."""
    return value.detach().cpu() if isinstance(value, Tensor) else _each(value, on_cpu)


class _Array(NamedTuple):
    """The numbers of a tensor."""

    values: np.ndarray


class _Batch(NamedTuple):
    """The fields of a batch, packed."""

    fields: dict[str, object]


def as_arrays(value: object) -> Any:
    """The same value with arrays for tensors, which are pickled several times as fast; for `as_tensors`."""
    if isinstance(value, Tensor):
        here = value.detach().cpu()
        return here if here.dtype == torch.bfloat16 else _Array(here.numpy())  # arrays have no bfloat16
    if isinstance(value, Batch):
        return _Batch(as_arrays(vars(value)))
    return _each(value, as_arrays)


def as_tensors(value: object) -> Any:
    """The value that `as_arrays` was given, with tensors in CPU memory."""
    if isinstance(value, _Array):
        # Ray's arrays cannot be written to, and whoever gets a tensor may want to.
        return torch.from_numpy(value.values if value.values.flags.writeable else value.values.copy())
    if isinstance(value, _Batch):
        return Batch(**as_tensors(value.fields))
    return _each(value, as_tensors)


def _each(value: object, change: Callable[[object], Any]) -> Any:
    """A container with each of its values changed; anything else unchanged."""
    if isinstance(value, Mapping):
        return {key: change(part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(change(part) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(change(part) for part in value)
    return value
