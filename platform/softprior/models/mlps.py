"""Gated MLPs that keep less and leave out what nobody reads, on CPUs.

A family's own MLP keeps the gates, the activated gates and what they are multiplied by: 63% of what a step of
SmolLM2 keeps. Activated gates are computed again here, by the same operations on the same values, so that
results are the same bit for bit.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache, partial
from inspect import getsource
from textwrap import dedent
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

PARTS = ("gate_proj", "up_proj", "down_proj")
"""What Llama's many relatives and Gemma call the products of an MLP; its activation is `act_fn`."""

FORMULA = "self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))"
"""What they compute, in their words."""

FORMS = (f"return {FORMULA}", f"down_proj = {FORMULA}\nreturn down_proj")
"""The passes forward that consist of it."""

Activation = Callable[[Tensor], Tensor]


def recompute(model: nn.Module, wanted: Callable[[Tensor], bool]) -> list[nn.Module]:
    """Has gated MLPs keep two states, for the input states for which that is wanted.

    Returns:
        The MLPs: modules that say `down(act(gate) * up)` and nothing else. What a clamp or a sparsity changes
        shows only for some states and in some layers, so what they compute is read, not tried.
    """
    found = [module for module in model.modules() if _is_gated(module)]
    for module in found:
        module.forward = partial(_forward, module, module.forward, wanted)
    return found


def leave_out(mlp: nn.Module, read: Callable[[], Int[Tensor, "K"] | None]) -> None:
    """Has the MLP of a last block return zeros at positions that are not read, without computing them.

    Args:
        read: the positions, each once; None for all.
    """
    mlp.forward = partial(_at_positions, mlp.forward, read)


def _at_positions(
    whole: Callable[[Tensor], Tensor], read: Callable[[], Tensor | None], states: Float[Tensor, "1 N H"]
) -> Float[Tensor, "1 N H"]:
    positions = read()
    if positions is None:
        return whole(states)
    return torch.zeros_like(states).index_copy(1, positions, whole(states.index_select(1, positions)))


def _is_gated(module: Any) -> bool:
    if not all(type(getattr(module, part, None)) is nn.Linear for part in PARTS):
        return False
    if "forward" in vars(module) or not _says_so(type(module).forward):
        return False
    # A weight that is partitioned over ranks is empty between passes: such models stay as they are.
    return bool(module.gate_proj.weight.numel()) and _activates(module.act_fn)


@cache
def _says_so(forward: Callable[..., Tensor]) -> bool:
    """Whether the source of a pass forward is one of `FORMS`."""
    try:
        (found,) = ast.parse(dedent(getsource(forward))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return False
    assert isinstance(found, ast.FunctionDef)
    plain = ast.unparse(found.args) == "self, x" and not found.decorator_list
    return plain and "\n".join(ast.unparse(line) for line in found.body) in FORMS


def _activates(act: Activation) -> bool:
    """Whether an activation returns a tensor of its own, which is overwritten here."""
    gates = torch.zeros(1)
    return act(gates).data_ptr() != gates.data_ptr()


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
