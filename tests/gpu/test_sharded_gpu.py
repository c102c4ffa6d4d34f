"""A sharded host on GPUs equals a local host on one, in float32 and in bfloat16."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from softprior.inputs.specs import ModelSpec
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.rank_group import Limits
from softprior.models.sharded import load_sharded
from softprior.testing.families import random_model, save_model
from softprior.testing.hosts import example_batch, example_prompts
from tests.distances import apart

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed"),
]

CLOSE = 1e-4
"""Relative to the norm, in float32."""

ROUNDING = 2.0
"""How much further from float32 a sharded host in bfloat16 may be than a local one, both of which round."""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_equals_a_local_host(ranks, dtype, tmp_path):
    def model():
        return random_model("llama", ATTENTION).to(getattr(torch, dtype))

    if torch.cuda.device_count() < ranks:
        pytest.skip(f"needs {ranks} GPUs, and there are {torch.cuda.device_count()}")
    save_model(model(), tmp_path)
    local = LocalLM(model().cuda(), "weights")
    exact = LocalLM(model().float().cuda(), "weights")
    spec = ModelSpec(id=str(tmp_path), dtype=dtype, device="cuda")
    host = load_sharded(spec, ranks, limits=Limits(request=120.0, loading=600.0))
    try:
        batch = example_batch(local.info())
        assert host.info().computing.endswith(f", {ranks} ranks")
        assert host.info()._replace(fingerprint="weights", computing=local.info().computing) == local.info()
        for name, prompt in example_prompts(local).items():
            ours, theirs, truth = (h.loss(prompt, batch, grad=True) for h in (host, local, exact))
            assert apart(ours.nll, truth.nll) <= (CLOSE if dtype == "float32" else 1e-2), name
            for place, right in truth.gradient.items():
                rounding = ROUNDING * apart(theirs.gradient[place], right)
                assert apart(ours.gradient[place], right) <= max(CLOSE, rounding), f"{name}, {place.name}"
            assert [len(out) for out in host.generate(prompt, batch, max_new=4, stop=frozenset())] == [4] * 5
        whole = sum(weight.nbytes for weight in model().parameters())
        assert all(rank.shard <= whole / ranks * 1.05 for rank in host.memory())
        assert all(rank.gathered < whole / 20 for rank in host.memory())
    finally:
        host.close()
