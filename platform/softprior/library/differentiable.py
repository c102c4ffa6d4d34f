"""The loss of a frozen model as a function that autograd differentiates once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softprior.errors import UserError
from softprior.models.protocol import FrozenLM
from softprior.prompt import Batch, Place


class Loss(torch.autograd.Function):
    """The weighted loss of a batch, with the gradient that the host has computed beside it."""

    @staticmethod
    def forward(
        ctx: Any, host: FrozenLM, batch: Batch, grad: bool, places: tuple[Place, ...], *vectors: Tensor
    ) -> Tensor:
        losses = host.loss(dict(zip(places, vectors, strict=True)), batch, grad=grad)
        if grad:
            assert losses.gradient is not None
            gradients = [losses.gradient[place].to(v) for place, v in zip(places, vectors, strict=True)]
            ctx.save_for_backward(*gradients)
        total = (losses.nll.double() * batch.weights.to(losses.nll.device).double()).sum()
        found: Tensor = total.float()
        return found

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # as it is under create_graph alone
            raise UserError(
                "the gradient of a frozen model's loss cannot be differentiated again; leave out "
                "create_graph=True, or take second derivatives by finite differences"
            )
        return (None, None, None, None, *(slope.to(gradient) * gradient for gradient in ctx.saved_tensors))
