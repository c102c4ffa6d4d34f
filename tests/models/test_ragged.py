"""Attention of rows of different lengths: its layout, with a literal form in place of the GPU's kernel.

The kernel itself is compared in tests/gpu.
"""

from __future__ import annotations

import pytest
import torch

from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec, StudySpec
from softprior.inputs.validation import validate
from softprior.models import packing, ragged
from softprior.models.load import load_local
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.models.protocol import Request
from softprior.prompt import Place
from softprior.studies.plan import plan_study
from softprior.testing.families import random_model
from softprior.testing.hosts import example_batch, example_prompts
from tests.distances import apart


def literal(query, key, value, queries, keys, most, scaling, window):
    """Causal attention of each sequence, the last query at the last key, written out."""
    out = []
    for start, end, first, last in zip(queries, queries[1:], keys, keys[1:], strict=False):
        q, k, v = query[start:end], key[first:last], value[first:last]
        assert len(q) <= most[0]
        assert len(k) <= most[1]
        k, v = (states.repeat_interleave(query.shape[1] // states.shape[1], 1) for states in (k, v))
        scores = torch.einsum("qad,kad->aqk", q, k) * (scaling or q.shape[-1] ** -0.5)
        back = torch.arange(len(q))[:, None] + len(k) - len(q) - torch.arange(len(k))
        seen = (back >= 0) & (back < (window or len(k)))
        out.append(torch.einsum("aqk,kad->qad", scores.masked_fill(~seen, -torch.inf).softmax(-1), v))
    return torch.cat(out)


@pytest.fixture
def without_gpu(monkeypatch):
    calls = []

    def counted(*args, **kwargs):
        calls.append(1)
        return literal(*args, **kwargs)

    monkeypatch.setattr(ragged, "flash_attention", counted)
    monkeypatch.setattr(packing, "fits", lambda *_: True)
    return calls


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_losses_and_gradients_are_those_of_padded_rows(family, without_gpu):
    host = LocalLM(random_model(family, ATTENTION), "weights")
    batch = example_batch(host.info())
    for name, prompt in example_prompts(host).items():
        others = [{place: shift + vectors for place, vectors in prompt.items()} for shift in (0.1, -0.2)]
        for prompts in ([prompt], [prompt, *others]):
            requests = [Request(each, batch, grad=bool(each)) for each in prompts]
            host.ragged = True
            found = host.loss_many(requests)
            assert without_gpu, name
            without_gpu.clear()
            host.ragged = False
            for one, right in zip(found, host.loss_many(requests), strict=True):
                assert apart(one.nll, right.nll) <= 1e-5, name
                for place, gradient in (right.gradient or {}).items():
                    assert apart(one.gradient[place], gradient) <= 1e-4, f"{name}, {place.name}"
            assert not without_gpu


def test_a_block_may_see_no_prompt_between_two_that_do(without_gpu):
    host = LocalLM(random_model("llama", ATTENTION), "weights")
    prompt = {Place(block, after="cut"): torch.ones(2, 32) for block in (0, 2)}
    found, right = (_loss(host, prompt, rows) for rows in (True, False))
    assert apart(found.nll, right.nll) <= 1e-5
    for place, gradient in right.gradient.items():
        assert apart(found.gradient[place], gradient) <= 1e-4, place.name


def _loss(host, prompt, ragged_rows):
    host.ragged = ragged_rows
    return host.loss(prompt, example_batch(host.info()), grad=True)


def test_kernels_decide_how_a_model_is_loaded_and_no_trials_identity(monkeypatch):
    ids = {id_of(kernels) for kernels in ("auto", "padded", "compiled")}
    assert len(ids) == 1
    compiled = []
    monkeypatch.setattr(LocalLM, "compile", lambda host: compiled.append(host))
    for kernels, ragged_rows in (("auto", True), ("padded", False), ("compiled", True)):
        host = load_local(ModelSpec(id="tiny", device="cpu", kernels=kernels)).host
        assert host.ragged is ragged_rows
        assert host.info().kernels == ("chunked" if ragged_rows else "padded"), "as on every CPU"
    assert not compiled


def id_of(kernels):
    study = {**STUDY, "model": {"id": "tiny", "kernels": kernels}}
    plan = plan_study(validate(StudySpec, study, "the study"))
    said = {
        "padded": "changes numbers by rounding alone on CPUs, where it takes more time and memory",
        "compiled": "has no effect on CPUs",
    }
    found = [note for note in plan.notes if note.startswith("model.kernels")]
    assert found == ([] if kernels == "auto" else [f"model.kernels = '{kernels}' {said[kernels]}"])
    return plan.trials[-1].id


def test_compiled_blocks_need_whole_weights():
    sharded = {"hosts": "shared", "ranks": 2, "cpus": 2}
    study = {**STUDY, "model": {"id": "tiny", "kernels": "compiled"}, "placement": sharded}
    with pytest.raises(UserError, match="weights gathered from other ranks during a pass cannot be compiled"):
        plan_study(validate(StudySpec, study, "the study"))


STUDY = {
    "name": "kernels",
    "priors": ["isotropic"],
    "methods": ["soft"],
    "tasks": ["arithmetic"],
    "rates": [0.1],
    "seeds": [0],
    "training": {"steps": 1, "batch": 2},
}
