"""Reduces logits at labels to the results of `FrozenLM` per row, for hosts that run the model themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from softprior.models.protocol import Comparison, Losses, Request
from softprior.prompt import Prompt


def differentiated(
    losses: Callable[[list[Prompt]], list[Losses]], requests: Sequence[Request]
) -> list[Losses]:
    """Losses of requests of one shape, with the gradients at their prompts where these are asked for.

    Each row sees one prompt, so the gradient of the sum over all rows is every request's own.

    Args:
        losses: the host's losses of each request's batch under the prompt given for it, differentiable in
            the prompts' vectors.
    """
    prompts = [request.prompt or {} for request in requests]
    if not (requests[0].grad and prompts[0]):
        with torch.no_grad():
            found = losses(prompts)
        return [one._replace(gradient={} if requests[0].grad else None) for one in found]
    leaves: list[Prompt] = [
        {place: vectors.detach().float().requires_grad_(True) for place, vectors in prompt.items()}
        for prompt in prompts
    ]
    with torch.enable_grad():
        found = losses(leaves)
        sums = [
            (one.nll * request.batch.weights.to(one.nll)).sum()
            for one, request in zip(found, requests, strict=True)
        ]
        torch.stack(sums).sum().backward()
    return [
        one._replace(
            nll=one.nll.detach(),
            gradient={
                place: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
                for place, leaf in own.items()
            },
        )
        for one, own in zip(found, leaves, strict=True)
    ]


def summed(
    logits: Float[Tensor, "N V"],
    labels: Int[Tensor, "N"],
    scored: Bool[Tensor, "N"],
    rows: Int[Tensor, "N"],
    count: int,
) -> Losses:
    """Negative log-likelihood and counts of N labels, summed over each of `count` rows; no gradient yet."""
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nll = functional.cross_entropy(exact, labels, reduction="none")
    right = (logits.argmax(-1) == labels) & scored
    return Losses(
        nll=_per_row(nll, rows, count),
        tokens=_per_row(torch.ones_like(rows), rows, count).cpu(),
        correct=_per_row(right.long(), rows, count).cpu(),
        scored=_per_row(scored.long(), rows, count).cpu(),
        gradient=None,
    )


def compared(
    first: Float[Tensor, "N V"], second: Float[Tensor, "N V"], rows: Int[Tensor, "N"], count: int
) -> Comparison:
    """Jensen-Shannon divergence and agreement of two sets of logits at N labels, summed over each row."""
    p, q = first.double().log_softmax(-1), second.double().log_softmax(-1)
    middle = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0, dtype=torch.double))
    divergence = ((p.exp() * (p - middle)).sum(-1) + (q.exp() * (q - middle)).sum(-1)) / 2
    agree = (first.argmax(-1) == second.argmax(-1)).long()
    return Comparison(
        divergence=_per_row(divergence, rows, count),
        agree=_per_row(agree, rows, count).cpu(),
        tokens=_per_row(torch.ones_like(rows), rows, count).cpu(),
    )


def _per_row(values: Tensor, rows: Int[Tensor, "N"], count: int) -> Tensor:
    return torch.zeros(count, dtype=values.dtype, device=values.device).index_add(0, rows, values)
