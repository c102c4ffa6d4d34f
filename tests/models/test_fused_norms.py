"""Norms by one kernel, here PyTorch's form of it on CPUs; the kernel itself is compared in tests/gpu."""

from __future__ import annotations

import pytest
import torch

from softprior.models import norms
from softprior.models.norms import fuse
from softprior.models.packing import ATTENTION
from softprior.testing.families import random_model


@pytest.mark.parametrize(("family", "count"), [("llama", 9), ("qwen3", 17), ("gemma3", 0), ("gpt2", 0)])
def test_only_norms_that_compute_the_same_are_fused(family, count):
    model = random_model(family, ATTENTION)
    found = fuse(model, lambda _: True)
    assert len(found) == count
    assert all("norm" in name for name, module in model.named_modules() if module in found)


def test_a_fused_norm_is_the_familys_own_up_to_rounding_and_only_where_it_is_wanted(monkeypatch):
    norm, wanted, calls = random_model("llama", ATTENTION).model.norm, [], []
    one = norms._fused
    states = torch.randn(5, 32)
    own = norm(states)
    fuse(norm, lambda _: bool(wanted))
    monkeypatch.setattr(norms, "_fused", lambda *args: calls.append(1) or one(*args))
    assert torch.equal(norm(states), own)
    assert not calls
    wanted.append(1)
    assert torch.allclose(norm(states), own, rtol=1e-6)
    assert calls
