"""From logits at labels to what the seam returns per row: for hosts that run the model themselves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from softprior.models.protocol import Comparison, Losses
from softprior.prompt import Batch, Prompt


def differentiated(
    losses: Callable[[Prompt], Losses], prompt: Prompt | None, batch: Batch, grad: bool
) -> Losses:
    """Losses of a prompt, with the gradient of their weighted sum at its vectors where it is asked for.

    Args:
        losses: the host's losses of a prompt, differentiable in its vectors.
    """
    prompt = prompt or {}
    if not (grad and prompt):
        with torch.no_grad():
            return losses(prompt)._replace(gradient={} if grad else None)
    leaves = {place: vectors.detach().float().requires_grad_(True) for place, vectors in prompt.items()}
    with torch.enable_grad():
        found = losses(leaves)
        (found.nll * batch.weights.to(found.nll)).sum().backward()
    gradient = {
        place: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for place, leaf in leaves.items()
    }
    return found._replace(nll=found.nll.detach(), gradient=gradient)


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
