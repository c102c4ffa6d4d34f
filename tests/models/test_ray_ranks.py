"""Ranks as Ray actors: the same host in front of them, and the same clean failure."""

from __future__ import annotations

import os
import signal
from importlib.util import find_spec

import pytest
import torch

from softprior.assets.models import resolve_model
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.ranks import Limits, RanksLostError
from softprior.models.sharded import ShardedLM
from softprior.specs import ModelSpec
from softprior.testing.families import random_model, save_model
from softprior.testing.hosts import example_batch, example_prompts

pytestmark = [
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed"),
]


def test_actors_are_ranks(tmp_path):
    import ray
    from ray.util import placement_group

    from softprior.models.rank import Job
    from softprior.models.ray_ranks import Actors

    model = random_model("llama", ATTENTION)
    save_model(model, tmp_path)
    spec = ModelSpec(id=str(tmp_path), device="cpu")
    local = LocalLM(model, "weights")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        group = placement_group([{"CPU": 1}, {"CPU": 1}])
        ray.get(group.ready(), timeout=120)
        actors = Actors(Job(spec, resolve_model(spec), "cpu", 1), group)
        host = ShardedLM(2, actors, Limits(request=60.0, loading=300.0))
        batch, prompt = example_batch(local.info()), example_prompts(local)["deep"]
        found, expected = (h.loss(prompt, batch, grad=True) for h in (host, local))
        assert torch.allclose(found.nll, expected.nll, rtol=1e-5)
        for place, gradient in expected.gradient.items():
            assert (found.gradient[place] - gradient).abs().max() <= 1e-5 * gradient.abs().max()

        os.kill(host.memory()[1].pid, signal.SIGKILL)
        with pytest.raises(RanksLostError, match=r"rank \d of the sharded model"):
            host.loss(prompt, batch)
        assert torch.equal(host.loss(prompt, batch).nll, found.nll)
        host.close()
    finally:
        ray.shutdown()
