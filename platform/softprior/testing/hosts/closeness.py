"""How close a host has to come to its oracle, and what counts as a refusal."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from softprior.errors import UserError

CLOSE = 3e-5
"""Relative to the largest expected number. Norms and softmax of most families compute in float32 whatever
the dtype, and a host may add in any order: 4e-6 at most over the families here. A token, position or
vector mixed up shows as 1e-2 or more."""


def assert_close(found: Tensor, expected: Tensor, what: str = "") -> None:
    """The same shape, and numbers within `CLOSE`."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    assert found.shape == expected.shape, f"{what}: {tuple(found.shape)}, not {tuple(expected.shape)}"
    error = float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-6)
    assert error <= CLOSE, f"{what}: off by {error:.1e} of the largest number"


def assert_refused(call: Callable[..., object], *args: object, **kwargs: object) -> str:
    """The call raises a `UserError` of one sentence, which is returned."""
    said = None
    try:
        call(*args, **kwargs)
    except UserError as error:
        said = str(error)
    assert said is not None, "the host took what it cannot do"
    assert "\n" not in said
    assert ". " not in said, f"more than one sentence: {said}"
    return said
