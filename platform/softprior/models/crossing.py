"""Values as they cross from one process to another."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from softprior.prompt import Prompt


def sent(prompt: Prompt | None) -> Prompt | None:
    """A prompt as it travels: plain values without anything for automatic differentiation."""
    return None if prompt is None else {place: vectors.detach().cpu() for place, vectors in prompt.items()}


def on_cpu(value: Any) -> Any:
    """The same with every tensor in the CPU's memory."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: on_cpu(part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(on_cpu(part) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(on_cpu(part) for part in value)
    return value
