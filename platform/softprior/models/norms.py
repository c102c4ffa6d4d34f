"""Root mean square norms by PyTorch's one kernel, on GPUs.

Families write them as eight operations on whole states, and a processor that starts kernels is the limit of
small steps. The kernel rounds once, where those round twice, so that results are equal up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = "variance_epsilon"
"""Where Llama's many relatives keep what is added to the mean square; Gemma's norms are others."""

TOLERANCE = 2.0**-6
"""Relative tolerance against a family's own norm: two roundings to bfloat16."""


@torch.no_grad()
def fuse(model: nn.Module, wanted: Callable[[Tensor], bool]) -> list[nn.Module]:
    """Has each root mean square norm of a model run as one kernel for the states for which that is wanted.

    Returns:
        The norms: modules that compute what the kernel does, on random states.
    """
    found = [module for module in model.modules() if _computes_it(module)]
    for module in found:
        module.forward = partial(_forward, module, module.forward, wanted)
    return found


def _computes_it(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    # A weight that is partitioned over ranks is empty between passes.
    if not hasattr(module, EPSILON) or not isinstance(weight, Tensor) or weight.dim() != 1 or not len(weight):
        return False
    if len(signature(module.forward).parameters) != 1:
        return False  # a gated norm
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(3, len(weight), generator=generator).to(weight)
    own = module(states).float()
    return torch.allclose(_fused(module, states).float(), own, rtol=TOLERANCE, atol=0)


def _fused(module: nn.Module, states: Tensor) -> Tensor:
    weight, epsilon = module.weight, getattr(module, EPSILON)
    return functional.rms_norm(states, weight.shape, weight, epsilon)  # type: ignore[arg-type]


def _forward(
    module: nn.Module, own: Callable[[Tensor], Tensor], wanted: Callable[[Tensor], bool], states: Tensor
) -> Tensor:
    return _fused(module, states) if wanted(states) else own(states)
