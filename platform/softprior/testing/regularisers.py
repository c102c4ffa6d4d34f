"""The contract of regularisers: what every `Regulariser` promises to a trial."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from softprior.errors import UserError
from softprior.inputs.validation import validate
from softprior.priors import PRIORS
from softprior.regularisers import Regulariser, Setting
from softprior.seeding import torch_generator
from softprior.testing.priors import TableSource

STEP = 1e-5
"""Step of central differences in float64, whose error is then some 1e-9 of the third derivative."""


def setting(source: TableSource) -> Setting:
    """A prompt that starts from the table's own Gaussian, of a task with a hundred answer tokens."""
    distribution = PRIORS["fitted"]().fit(source)
    initial = distribution.sample(torch_generator(0), source.tokens)
    return Setting(source, distribution, initial, answers=100)


def check_value(regulariser: Regulariser, source: TableSource) -> None:
    """The penalty is one finite number, the same when asked again, of vectors that stay as they are."""
    term = regulariser.term(setting(source))
    vectors = torch.randn(source.tokens, source.hidden, generator=torch_generator(1))
    before = vectors.clone()
    value = term(vectors)
    assert value.shape == ()
    assert bool(value.isfinite())
    assert torch.equal(term(vectors), value)
    assert torch.equal(vectors, before)
    assert bool(term(vectors[:1]).isfinite()), "a prompt may have one vector"


def check_gradient(regulariser: Regulariser, source: TableSource) -> None:
    """The gradient is that of central differences in double precision, near the data and far from it."""
    term = regulariser.term(setting(source))
    for spread in (0.3, 3.0):
        vectors = spread * torch.randn(3, source.hidden, generator=torch_generator(2), dtype=torch.float64)
        at = vectors.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(term(at), at)
        assert bool(gradient.isfinite().all())
        for index in range(vectors.numel()):
            by = torch.zeros(vectors.numel(), dtype=torch.float64)
            by[index] = STEP
            by = by.view_as(vectors)
            slope = float(term(vectors + by) - term(vectors - by)) / (2 * STEP)
            assert slope == pytest.approx(float(gradient.flatten()[index]), rel=1e-4, abs=1e-6)


def check_descent(regulariser: Regulariser, source: TableSource) -> None:
    """A small step down the gradient lowers the penalty, or there is nothing left to lower."""
    term = regulariser.term(setting(source))
    vectors = 3 * torch.randn(source.tokens, source.hidden, generator=torch_generator(3), dtype=torch.float64)
    at = vectors.clone().requires_grad_(True)
    value = term(at)
    (gradient,) = torch.autograd.grad(value, at)
    if bool((gradient == 0).all()):
        return
    step = 1e-3 * float(vectors.norm()) / float(gradient.norm())
    assert float(term(vectors - step * gradient)) < float(value.detach())


def check_serialisation(regulariser: Regulariser) -> None:
    """A regulariser survives JSON, and refuses what it does not know."""
    kind, params = type(regulariser), json.loads(regulariser.canonical())
    assert validate(kind, params, "contract") == regulariser
    with pytest.raises(UserError, match="unknown key 'no_such_parameter'"):
        validate(kind, {**params, "no_such_parameter": 1}, "contract")
    with pytest.raises(UserError, match="weight = -1"):
        validate(kind, {**params, "weight": -1.0}, "contract")


CHECKS: tuple[Callable[[Regulariser, TableSource], None], ...] = (check_value, check_gradient, check_descent)
"""The part of the suite that is about the penalty of vectors near a table."""


def check_regulariser(regulariser: Regulariser, source: TableSource | None = None) -> None:
    """Runs the whole suite.

    Raises:
        AssertionError: the regulariser breaks its contract.
    """
    source = source or TableSource()
    for check in CHECKS:
        check(regulariser, source)
    check_serialisation(regulariser)
