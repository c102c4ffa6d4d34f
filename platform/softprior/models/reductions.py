"""Reduces logits at labels to the results of `FrozenLM` per row, for hosts that run the model themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from softprior.models.passes import divided
from softprior.models.protocol import Comparison, Losses, Request
from softprior.prompt import Place, Prompt


def differentiated(
    losses: Callable[[list[Prompt]], Losses], requests: Sequence[Request], device: torch.device
) -> list[Losses]:
    """Losses of requests of one shape, with the gradients at their prompts where these are asked for.

    Each row sees one prompt, so the gradient of the sum over all rows is every request's own.

    Args:
        losses: the host's losses of the rows of all requests, one after another, under the prompts given for
            them, differentiable in the prompts' vectors.
        device: the host's. What a GPU needs goes there before the pass and comes back behind it, since each
            copy waits for all that it was given to do.
    """
    prompts = [request.prompt or {} for request in requests]
    gradients: list[dict[Place, Tensor] | None]
    if requests[0].grad and prompts[0]:
        leaves: list[Prompt] = [
            {
                place: vectors.detach().to(device, torch.float32).requires_grad_(True)
                for place, vectors in prompt.items()
            }
            for prompt in prompts
        ]
        weights = torch.cat([request.batch.weights for request in requests]).to(device)
        with torch.enable_grad():
            found = losses(leaves)
            found.nll.backward(weights.to(found.nll))
        gradients = [
            {place: _gradient(leaf).to(prompt[place].device) for place, leaf in own.items()}
            for own, prompt in zip(leaves, prompts, strict=True)
        ]
    else:
        with torch.no_grad():
            found = losses(prompts)
        gradients = [{} if requests[0].grad else None for _ in requests]
    done = found._replace(
        nll=found.nll.detach(),
        tokens=found.tokens.cpu(),
        correct=found.correct.cpu(),
        scored=found.scored.cpu(),
    )
    parts = divided(done, [len(request.batch) for request in requests])
    return [part._replace(gradient=gradient) for part, gradient in zip(parts, gradients, strict=True)]


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


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
        tokens=_per_row(torch.ones_like(rows), rows, count),
        correct=_per_row(right.long(), rows, count),
        scored=_per_row(scored.long(), rows, count),
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
