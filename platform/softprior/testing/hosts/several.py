"""Losses of several prompts in one pass are those of each alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from softprior.models.protocol import FrozenLM, Losses, PackingLM, Request
from softprior.testing.hosts.closeness import assert_close
from softprior.testing.hosts.examples import example_batch, few_prompts, picked

ROWS = ([3, 1, 4, 0, 2], [2], [1, 0, 3])
"""Rows of each of three requests: as many as there are, one alone, some."""

BUDGET = 25
"""Positions of a pass that cut requests in the middle."""


def check_several(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001  same signature
    """Other prompts in the same pass change neither losses nor gradients, however rows are split.

    Of a host that takes one prompt at a time there is nothing to check.
    """
    if not isinstance(host, PackingLM):
        return
    batches = [picked(example_batch(host.info(), seed), rows) for seed, rows in enumerate(ROWS)]
    drawn = [few_prompts(host, seed) for seed in range(len(ROWS))]
    requests = [
        Request(prompts[name], rows, grad)
        for name in drawn[0]
        for grad in (False, True)
        for prompts, rows in zip(drawn, batches, strict=True)
    ]
    alone = [host.loss(prompt, batch, grad=grad) for prompt, batch, grad in requests]
    for tokens in (None, BUDGET):
        together = host.loss_many(requests, tokens)
        assert len(together) == len(alone)
        for found, expected, request in zip(together, alone, requests, strict=True):
            _check_equal(found, expected, f"{', '.join(p.name for p in request.prompt or {})}, {tokens}")
    assert host.loss_many([]) == []
    _check_isolation(host, requests)


def _check_equal(found: Losses, alone: Losses, said: str) -> None:
    assert_close(found.nll, alone.nll.cpu(), said)
    for field in ("tokens", "correct", "scored"):
        assert getattr(found, field).tolist() == getattr(alone, field).tolist(), said
    assert (found.gradient is None) == (alone.gradient is None), said
    assert set(found.gradient or {}) == set(alone.gradient or {}), said
    for place, gradient in (alone.gradient or {}).items():
        assert found.gradient is not None
        assert_close(found.gradient[place], gradient.cpu(), f"{said}, {place.name}")


def _check_isolation(host: PackingLM, requests: list[Request]) -> None:
    """A prompt that is not finite spoils its own numbers alone; weights count in their own request."""
    alike = next(i for i, request in enumerate(requests) if request.grad and len(request.prompt or {}) == 1)
    first, second, third = requests[alike : alike + 3]
    broken = {place: torch.full_like(vectors, torch.nan) for place, vectors in (second.prompt or {}).items()}
    heavy = replace(third.batch, weights=1e3 * third.batch.weights)
    found = host.loss_many([first, second._replace(prompt=broken), third._replace(batch=heavy)])
    alone = host.loss(first.prompt, first.batch, grad=True)
    assert_close(found[0].nll, alone.nll.cpu())
    labelled = second.batch.labels.any(1)
    assert bool(found[1].nll[labelled.to(found[1].nll.device)].isnan().all())
    for place, gradient in (alone.gradient or {}).items():
        assert_close((found[0].gradient or {})[place], gradient.cpu())
    for place, gradient in (host.loss(third.prompt, third.batch, grad=True).gradient or {}).items():
        assert_close((found[2].gradient or {})[place], 1e3 * gradient.cpu())
