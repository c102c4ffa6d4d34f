"""MLPs that compute activated gates again give what the families' own give, bit for bit."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch import nn
from transformers import GemmaConfig, LlamaConfig
from transformers.models.gemma.modeling_gemma import GemmaMLP
from transformers.models.llama.modeling_llama import LlamaMLP

from softprior.models.mlps import _says_so, leave_out, recompute

SMALL = {"hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 2, "num_key_value_heads": 2}


def mlp(activation: str = "silu", bias: bool = False) -> LlamaMLP:
    torch.manual_seed(0)
    return LlamaMLP(LlamaConfig(**SMALL, hidden_act=activation, mlp_bias=bias))


def gemma() -> GemmaMLP:
    torch.manual_seed(0)
    return GemmaMLP(GemmaConfig(**SMALL))


def result(module: nn.Module, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """What it computes, the gradient at its input, and the number of states of inner width that it saves."""
    states = states.clone().requires_grad_()
    weights = {weight.data_ptr() for weight in module.parameters()}
    inner: set[int] = set()

    def save(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.shape[-1] == SMALL["intermediate_size"]:
            inner.add(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        out = module(states)
    (gradient,) = torch.autograd.grad(out.square().sum(), states)
    return out.detach(), gradient, len(inner - weights)


@pytest.mark.parametrize(
    "module",
    [mlp(), mlp(bias=True), gemma(), mlp("gelu_pytorch_tanh"), mlp("relu"), mlp("relu2"), mlp("tanh")],
)
def test_results_are_the_same_and_less_is_kept(module):
    module.requires_grad_(False)
    states = torch.randn(2, 5, SMALL["hidden_size"])
    own = result(module, states)
    assert recompute(module, lambda _: True) == [module]
    ours = result(module, states)
    assert torch.equal(ours[0], own[0])
    assert torch.equal(ours[1], own[1])
    assert ours[2] == 2
    with torch.no_grad():
        assert torch.equal(module(states), own[0])


def test_it_is_turned_off_by_who_asks():
    module, states = mlp().requires_grad_(False), torch.randn(2, 5, SMALL["hidden_size"])
    recompute(module, lambda _: False)
    assert result(module, states)[2] == 3


def test_it_is_done_once():
    module, states = mlp().requires_grad_(False), torch.randn(2, 5, SMALL["hidden_size"])
    assert recompute(module, lambda _: False) == [module]
    assert recompute(module, lambda _: True) == []
    assert result(module, states)[2] == 3


def test_what_is_not_read_is_left_out():
    module = mlp().requires_grad_(False)
    recompute(module, lambda _: True)
    positions = torch.tensor([1, 4])
    states = torch.randn(1, 5, SMALL["hidden_size"], requires_grad=True)
    whole = module(states)[:, positions]
    (gradient,) = torch.autograd.grad(whole.square().sum(), states)
    read: list[torch.Tensor | None] = [positions]
    leave_out(module, lambda: read[0])
    found = module(states)
    (again,) = torch.autograd.grad(found.square().sum(), states)
    # Other sizes of products, float32.
    assert torch.allclose(found[:, positions], whole, rtol=1e-5, atol=1e-6)
    assert torch.allclose(again, gradient, rtol=1e-5, atol=1e-6)
    assert not found[:, [0, 2, 3]].any()
    read[0] = None
    assert torch.allclose(module(states)[:, positions], whole, rtol=1e-5, atol=1e-6)
    assert module(states)[:, 0].any()


class Rotated(LlamaMLP):
    """Computes something else with parts of the same names."""

    def forward(self, x):
        return super().forward(x.roll(1, -1))


class Clamped(LlamaMLP):
    """Computes something else only for large gates, as some families do in some layers."""

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)).clamp(max=16) * self.up_proj(x))


@pytest.mark.parametrize(
    "module", [Rotated(LlamaConfig(**SMALL)), Clamped(LlamaConfig(**SMALL)), mlp("linear"), nn.Linear(3, 3)]
)
def test_other_modules_stay_as_they_are(module):
    assert recompute(module, lambda _: True) == []


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma3", "gemma2", "smollm3"])
def test_families_say_so_in_the_installed_transformers(family):
    module = import_module(f"transformers.models.{family}.modeling_{family}")
    assert any(_says_so(kind.forward) for name, kind in vars(module).items() if name.endswith("MLP"))
