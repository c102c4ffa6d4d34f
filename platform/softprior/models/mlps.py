"""Gated MLPs that keep two states for the pass backward instead of three, on CPUs.

A family's own MLP keeps the gates, the activated gates and what they are multiplied by: 63% of what a step of
SmolLM2 keeps. Activated gates are computed again here, by the same operations on the same values, so that
results are the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

PARTS = ("gate_proj", "up_proj", "down_proj")
"""What Llama's many relatives and Gemma call the products of an MLP; its activation is `act_fn`."""

Activation = Callable[[Tensor], Tensor]


@torch.no_grad()
def recompute(model: nn.Module, wanted: Callable[[Tensor], bool]) -> list[nn.Module]:
    """Has gated MLPs keep two states, for the input states for which that is wanted.

    Returns:
        The MLPs: modules that compute `down(act(gate) * up)`, as the first of their class does on random
        states.
    """
    kinds: dict[type, bool] = {}
    found = []
    for module in model.modules():
        if type(module) not in kinds:
            kinds[type(module)] = _is_gated(module)
        if kinds[type(module)]:
            module.forward = partial(_forward, module, module.forward, wanted)
            found.append(module)
    return found


def _is_gated(module: Any) -> bool:
    if not all(isinstance(getattr(module, part, None), nn.Linear) for part in PARTS):
        return False
    weight = module.gate_proj.weight
    # A weight that is partitioned over ranks is empty between passes.
    if not callable(getattr(module, "act_fn", None)) or not weight.numel():
        return False
    if len(signature(module.forward).parameters) != 1:
        return False
    states = torch.randn(3, weight.shape[1], generator=torch.Generator().manual_seed(0)).to(weight)
    if module.act_fn(states).data_ptr() == states.data_ptr():
        return False  # activates in place, or not at all; ours overwrites what it returns
    return torch.equal(_gated(module, states), module(states))


def _forward(
    module: nn.Module, own: Callable[[Tensor], Tensor], wanted: Callable[[Tensor], bool], states: Tensor
) -> Tensor:
    return _gated(module, states) if states.requires_grad and wanted(states) else own(states)


def _gated(module: Any, states: Float[Tensor, "*N H"]) -> Float[Tensor, "*N H"]:
    gate, up = module.gate_proj(states), module.up_proj(states)
    inner = _Gated.apply(gate, up, module.act_fn)  # type: ignore[no-untyped-call]
    out: Tensor = module.down_proj(inner)
    return out


class _Gated(torch.autograd.Function):
    """`act(gate) * up`, which keeps only its two arguments."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, gate: Float[Tensor, "*N I"], up: Float[Tensor, "*N I"], act: Activation
    ) -> Float[Tensor, "*N I"]:
        ctx.save_for_backward(gate, up)
        ctx.act = act  # type: ignore[attr-defined]
        return act(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Float[Tensor, "*N I"]) -> tuple[Tensor, Tensor, None]:
        gate, up = ctx.saved_tensors  # type: ignore[attr-defined]
        with torch.enable_grad():
            gate = gate.detach().requires_grad_()
            activated = ctx.act(gate)  # type: ignore[attr-defined]
        (to_gate,) = torch.autograd.grad(activated, gate, gradient * up)
        return to_gate, activated.detach().mul_(gradient), None
