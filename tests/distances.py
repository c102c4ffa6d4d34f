"""How far two tensors are apart."""

from __future__ import annotations

from torch import Tensor


def apart(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference relative to that of what is expected, wherever the two are."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    return float((found - expected).norm() / expected.norm())
