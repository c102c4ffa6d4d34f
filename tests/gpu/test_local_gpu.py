"""A local host on a GPU keeps the contract of hosts, held against plain transformers on the CPU."""

from __future__ import annotations

import pytest
import torch

from softprior.inputs.specs import FrozenCache
from softprior.models import norms, ragged
from softprior.models.frozen_part import first_block
from softprior.models.kept_rows import KeptRows
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.protocol import Request
from softprior.prompt import Place
from softprior.testing.families import FAMILIES, random_model
from softprior.testing.hosts import CHECKS, example_batch, example_prompts
from tests.distances import apart

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


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3"])
def test_rows_of_different_lengths_are_as_close_to_float32_as_padded_ones(family, monkeypatch):
    host = LocalLM(random_model(family, ATTENTION).bfloat16().cuda(), "weights")
    exact = LocalLM(random_model(family, ATTENTION).bfloat16().float(), "weights")
    batch = example_batch(exact.info())
    assert host.kernels == "ragged"
    kernel, calls = ragged.flash_attention, []
    monkeypatch.setattr(ragged, "flash_attention", lambda *args: calls.append(1) or kernel(*args))
    for name, prompt in example_prompts(exact).items():
        others = [prompt, {place: 0.5 * vectors for place, vectors in prompt.items()}]
        requests = [Request(each, batch, grad=bool(prompt)) for each in others]
        truth = exact.loss_many(requests)
        calls.clear()
        found = host.loss_many(requests)
        assert calls, name
        host.ragged = False
        padded = host.loss_many(requests)
        host.ragged = True
        _as_close(found, padded, truth, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["deep", "prefix"])
def test_what_is_kept_below_the_first_vectors_changes_no_bit_and_only_rounding(
    name, dtype, tmp_path, monkeypatch
):
    monkeypatch.setenv("SOFTPRIOR_CACHE", str(tmp_path))
    here, exact = (LocalLM(random_model("llama", ATTENTION).to(dtype), "weights") for _ in range(2))
    here._model.cuda()
    exact._model.float()
    prompt = _in_the_last_blocks(here)[name]
    batch, rows = example_batch(here.info()), KeptRows(FrozenCache())
    whole = here.loss(prompt, batch, grad=True)
    here.keep_rows(rows)
    cold = here.logits(prompt, batch)
    assert rows._rows
    assert all(states.device.type == "cpu" and states.dtype == dtype for states in rows._rows.values())
    warm, found = here.logits(prompt, batch), here.loss(prompt, batch, grad=True)
    here.keep_rows(KeptRows(FrozenCache()))
    monkeypatch.setattr(here.frozen, "_computed", None)  # what is in files is not computed again
    here.frozen._checked.add(first_block(prompt))
    assert torch.equal(cold, warm)
    assert torch.equal(cold, here.logits(prompt, batch))
    truth = exact.loss(prompt, batch, grad=True)
    if dtype == torch.bfloat16:
        _as_close([found], [whole], [truth], name)
        return
    assert apart(found.nll, truth.nll) <= 3e-5
    for place, gradient in truth.gradient.items():
        assert apart(found.gradient[place], gradient) <= 1e-4, place.name


def _in_the_last_blocks(host):
    generator = torch.Generator().manual_seed(0)
    blocks = range(host.info().blocks)[-2:]
    places = {
        "deep": [Place(block, after="cut") for block in blocks],
        "prefix": [Place(block, kind) for block in blocks for kind in ("key", "value")],
    }
    return {
        name: {place: torch.randn(3, host.width(place), generator=generator) for place in found}
        for name, found in places.items()
    }


@pytest.mark.parametrize(("family", "count"), [("llama", 9), ("qwen3", 17), ("gemma3", 0)])
def test_norms_run_as_one_kernel_in_half_precision(family, count, monkeypatch):
    host = LocalLM(random_model(family, ATTENTION).bfloat16().cuda(), "weights")
    batch = example_batch(host.info())
    host.logits(None, batch)  # the first pass of all measures rotations, in passes of its own
    one, calls = norms._fused, []
    monkeypatch.setattr(norms, "_fused", lambda *args: calls.append(1) or one(*args))
    for ragged_rows, expected in ((True, count), (False, 0)):
        calls.clear()
        host.ragged = ragged_rows
        host.logits(None, batch)
        assert len(calls) == expected


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_compiled_blocks_are_as_close_to_float32(family):
    host, fused, exact = (
        LocalLM(random_model(family, ATTENTION).bfloat16().to(device).to(dtype), "weights")
        for device, dtype in (("cuda", torch.bfloat16), ("cuda", torch.bfloat16), ("cpu", torch.float32))
    )
    fused.compile()
    batch = example_batch(exact.info())
    for name, prompt in example_prompts(exact).items():
        requests = [Request(prompt, batch, grad=bool(prompt))]
        found, plain, truth = (model.loss_many(requests) for model in (fused, host, exact))
        _as_close(found, plain, truth, name)
    shown, right = (
        model.prompt_states({Place(0): torch.ones(2, 32)}, ("resid.4", "final")) for model in (fused, exact)
    )
    for site, states in right.items():
        assert apart(shown[site].cpu(), states) <= 0.05, site


def _as_close(found, others, truth, name):
    """Losses within rounding, and gradients at most twice as far from the truth as those of another form."""
    for one, other, right in zip(found, others, truth, strict=True):
        assert apart(one.nll, right.nll) <= 1e-2, name
        for place, gradient in (right.gradient or {}).items():
            bound = 2 * apart(other.gradient[place], gradient)
            assert apart(one.gradient[place], gradient) <= bound, f"{name}, {place.name}"
