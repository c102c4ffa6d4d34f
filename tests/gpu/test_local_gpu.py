"""A local host on a GPU keeps the contract of hosts, held against plain transformers on the CPU."""

from __future__ import annotations

import pytest
import torch

from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.testing.families import FAMILIES, random_model
from softprior.testing.hosts import CHECKS, example_batch, example_prompts
from softprior.testing.hosts.closeness import apart

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("check", CHECKS["decoder"], ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(family, check):
    check(LocalLM(random_model(family, ATTENTION).cuda(), "weights"), random_model(family))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_bfloat16_is_as_close_to_float32_as_on_a_processor(family):
    here, there = (
        LocalLM(random_model(family, ATTENTION).bfloat16().to(d), "weights") for d in ("cuda", "cpu")
    )
    exact = LocalLM(random_model(family, ATTENTION).bfloat16().float(), "weights")
    batch = example_batch(exact.info())
    for name, prompt in example_prompts(exact).items():
        found, rounded, truth = (host.loss(prompt, batch, grad=True) for host in (here, there, exact))
        assert apart(found.nll, truth.nll) <= 1e-2, name
        for place, right in truth.gradient.items():
            bound = 2 * apart(rounded.gradient[place], right)
            assert apart(found.gradient[place], right) <= bound, f"{name}, {place.name}"
