"""A sharded host on GPUs equals a local host on one, in bfloat16."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.ranks import Limits
from softprior.models.sharded import load_sharded
from softprior.specs import ModelSpec
from softprior.testing.families import random_model, save_model
from softprior.testing.hosts import example_batch, example_prompts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed"),
]

CLOSE = 2e-2
"""Relative to the largest number: bfloat16 has eight bits, and rows in other company round otherwise."""


@pytest.mark.parametrize("ranks", [1, 2])
def test_equals_a_local_host(ranks, tmp_path):
    if torch.cuda.device_count() < ranks:
        pytest.skip(f"needs {ranks} GPUs, and there are {torch.cuda.device_count()}")
    save_model(random_model("llama", ATTENTION).bfloat16(), tmp_path)
    local = LocalLM(random_model("llama", ATTENTION).bfloat16().cuda(), "weights")
    spec = ModelSpec(id=str(tmp_path), dtype="bfloat16", device="cuda")
    host = load_sharded(spec, ranks, limits=Limits(request=120.0, loading=600.0))
    try:
        batch = example_batch(local.info())
        assert host.info()._replace(fingerprint="weights") == local.info()
        for name, prompt in example_prompts(local).items():
            found, expected = (h.loss(prompt, batch, grad=True) for h in (host, local))
            pairs = [(found.nll, expected.nll.cpu())]
            pairs += [(found.gradient[place], own.cpu()) for place, own in expected.gradient.items()]
            for ours, theirs in pairs:
                assert (ours - theirs).abs().max() <= CLOSE * theirs.abs().max(), name
            assert [len(out) for out in host.generate(prompt, batch, max_new=4, stop=frozenset())] == [4] * 5
        whole = sum(2 * weight.numel() for weight in random_model("llama").parameters())
        assert all(rank.shard <= whole / ranks * 1.05 for rank in host.memory())
        assert all(rank.gathered < whole / 20 for rank in host.memory())
    finally:
        host.close()
