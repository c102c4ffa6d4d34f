"""The local host keeps the contract of hosts, in every family of the contract suite."""

import pytest
import torch

from softprior.models.blocks import Blocks
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.prompt import Place
from softprior.testing.families import FAMILIES, OTHER_FAMILIES, random_model, with_uneven_norms
from softprior.testing.hosts import (
    CHECKS,
    check_finite_differences,
    check_host,
    check_normalise,
    example_batch,
)

DOUBLE = "gpt2"
"""The family that has its contract checked in float64, and in float32 against PEFT."""

EACH_TIME = ("gemma2", "gemma3", "llama")
"""Families whose contract is checked each time; all that `qwen3` has is in one of them."""

every_family = pytest.mark.parametrize("family", sorted(FAMILIES))


@pytest.mark.parametrize("family", EACH_TIME)
@pytest.mark.parametrize("check", CHECKS["decoder"], ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(family, check):
    check(LocalLM(random_model(family, ATTENTION), "weights"), random_model(family))


@pytest.mark.faults  # for its minutes; docs/models.md is written from a short path through each of them
@pytest.mark.parametrize("family", sorted({*FAMILIES, *OTHER_FAMILIES} - {*EACH_TIME, DOUBLE, "falcon"}))
@pytest.mark.parametrize("check", CHECKS["decoder"], ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract_of_the_other_families(family, check):
    """All but falcon, which is refused."""
    check(LocalLM(random_model(family, ATTENTION), "weights"), random_model(family))


@every_family
def test_finite_differences(family):
    check_finite_differences(LocalLM(random_model(family, ATTENTION).double(), "weights"))


@every_family
def test_each_block_has_its_own_norm(family):
    host = LocalLM(with_uneven_norms(random_model(family, ATTENTION)), "weights")
    check_normalise(host, with_uneven_norms(random_model(family)))


def test_the_suite_runs_whole_in_double_precision():
    check_host(LocalLM(random_model(DOUBLE, ATTENTION).double(), "weights"), random_model(DOUBLE).double())


@every_family
@pytest.mark.parametrize("kind", ["residual", "prefix"])
def test_blocks_below_the_first_prompted_one_get_no_gradient(family, kind):
    model = random_model(family, ATTENTION)
    host = LocalLM(model, "weights")
    places = [Place(2, after="cut")] if kind == "residual" else [Place(2, "key"), Place(2, "value")]
    prompt = {place: torch.randn(3, host.width(place)) for place in places}
    host.loss(None, example_batch(host.info()))  # the first pass measures the model, in passes of its own
    tracked: list[bool] = []
    for layer in Blocks.of(model).layers:
        layer.register_forward_hook(
            lambda _, __, out: tracked.append((out[0] if isinstance(out, tuple) else out).requires_grad)
        )
    host.loss(prompt, example_batch(host.info()), grad=True)
    assert tracked == [False, False, True, True]
