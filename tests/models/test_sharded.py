"""A sharded host on two CPU ranks: the contract of hosts, a local host's answers, and how ranks are lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec
from softprior.models.lengths import Regimes
from softprior.models.load import load_local
from softprior.models.packing import ATTENTION
from softprior.models.protocol import PackingLM, Request
from softprior.models.rank_group import Limits, RanksLostError
from softprior.models.schedule import Call, Scheduler
from softprior.models.sharded import dealt_to_ranks, load_sharded
from softprior.prompt import Place, Row, collate
from softprior.testing.families import random_model, save_model, with_uneven_norms
from softprior.testing.hosts import PASSED_ON, Recorder, example_batch, example_prompts
from softprior.testing.hosts.examples import few_prompts, picked

pytestmark = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")

two_ranks = pytest.mark.faults
"""Two ranks take half a minute to start, and a pass twenty times as long as a local one; CI runs these."""

CLOSE = 1e-5
"""Relative to the largest number: ranks add in another order."""

LONGEST = 40
DYNAMIC = {
    "max_position_embeddings": LONGEST,
    "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
}

LIMITS = Limits(request=60.0, loading=300.0)


def saved(family: str, folder: Path, uneven: bool = True) -> ModelSpec:
    model = random_model(family, ATTENTION)
    save_model(with_uneven_norms(model) if uneven else model, folder)
    return ModelSpec(id=str(folder), device="cpu")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """With a rotation that is the plain one up to `LONGEST` positions, and beyond depends on the length."""
    spec = saved("llama", tmp_path_factory.mktemp("llama"))
    path = Path(spec.id) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | DYNAMIC))
    return spec


@pytest.fixture(scope="module")
def host(llama):
    host = load_sharded(llama, 2, limits=LIMITS)
    yield host
    host.close()


@pytest.fixture(scope="module")
def local(llama):
    return load_local(llama).host


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= CLOSE * float(expected.abs().max())


ELSEWHERE = (
    *("check_several", "check_stop", "check_weights", "check_losses", "check_gradients"),
    *("check_generation", "check_generation_agrees_with_loss", "check_comparison", "check_prefix_of_a_text"),
)
"""What the tests below compare with a local host, which keeps the contract. Another family has it whole."""

every_check = pytest.mark.parametrize(
    "check", PASSED_ON["decoder"], ids=lambda check: check.__name__.removeprefix("check_")
)


@two_ranks
@pytest.mark.parametrize(
    "check",
    [check for check in PASSED_ON["decoder"] if check.__name__ not in ELSEWHERE],
    ids=lambda check: check.__name__.removeprefix("check_"),
)
def test_contract(check, host, monkeypatch):
    """With few prompts."""
    for name, module in list(sys.modules.items()):
        if name.startswith("softprior.testing.hosts.") and not name.endswith((".examples", ".behind")):
            monkeypatch.setattr(module, "example_prompts", few_prompts, raising=False)
    oracle = with_uneven_norms(random_model("llama"))
    oracle.config.max_position_embeddings = LONGEST
    check(host, oracle)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    host = load_sharded(saved("gpt2", tmp_path_factory.mktemp("gpt2"), uneven=False), 2, limits=LIMITS)
    yield host
    host.close()


@two_ranks
@every_check
def test_contract_of_another_family(check, gpt2):
    """Learned positions, biases, and queries, keys and values of one product."""
    check(gpt2, random_model("gpt2"))


@two_ranks
@pytest.mark.parametrize("rows", [[0, 2, 4], [2], [3, 3]])
def test_equals_a_local_host(host, local, rows):
    """Rows that split evenly, unevenly and not at all, with and without labels."""
    batch = picked(example_batch(local.info()), rows)
    for name in ("soft", "deep", "prefix"):
        prompt = example_prompts(local)[name]
        found, expected = host.loss(prompt, batch, grad=True), local.loss(prompt, batch, grad=True)
        close(found.nll, expected.nll)
        assert [part.tolist() for part in found[1:4]] == [part.tolist() for part in expected[1:4]], name
        assert found.gradient.keys() == expected.gradient.keys()
        for place, gradient in expected.gradient.items():
            close(found.gradient[place], gradient)
        how = {"max_new": 4, "stop": frozenset({7, 8})}
        assert host.generate(prompt, batch, **how) == local.generate(prompt, batch, **how)
        for a, b in zip(host.compare(prompt, None, batch), local.compare(prompt, None, batch), strict=True):
            assert torch.allclose(a, b.to(a), rtol=CLOSE, atol=1e-7)


@two_ranks
@pytest.mark.parametrize("lengths", [(9, 44, 50, 12, 44), (39,)])
def test_rows_that_turn_differently_run_apart_on_all_ranks(host, local, lengths):
    """Ranks with other numbers of parts, one with none, and rows that pass the length on their way."""
    assert local._regimes == Regimes(LONGEST, each=True)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for n in lengths:
        tokens, labels = torch.randint(97, (n,), generator=generator).tolist(), [False] + [True] * (n - 1)
        rows.append(Row(str(len(rows)), tokens, labels, labels))
    batch = collate(rows).weighted(torch.linspace(0.5, 1.5, len(rows)))
    prompt = {Place(0): torch.randn(3, 32, generator=generator)}
    found, expected = host.loss(prompt, batch, grad=True), local.loss(prompt, batch, grad=True)
    close(found.nll, expected.nll)
    close(found.gradient[Place(0)], expected.gradient[Place(0)])
    how = {"max_new": 3, "stop": frozenset({7, 8})}
    assert host.generate(prompt, batch, **how) == local.generate(prompt, batch, **how)


@two_ranks
def test_one_ranks_row_across_the_length_is_refused_by_all(host, local):
    """The rank with the other row would wait in vain."""
    cut = {Place(0, after="cut"): torch.randn(3, 32)}
    rows = [Row(f"{n}", [5] * n, *[[False] + [True] * (n - 1)] * 2) for n in (38, 9)]
    for model in (local, host):
        with pytest.raises(UserError, match="depend on the length from 40 positions on"):
            model.loss(cut, collate(rows))
    close(host.loss(cut, collate(rows[1:])).nll, local.loss(cut, collate(rows[1:])).nll)


def test_each_rank_does_its_part(local):
    batch = example_batch(local.info())  # 9, 4, 12, 1 and 7 tokens
    first, second = dealt_to_ranks(batch, 2)
    assert [share.rows.tolist() for share in (first, second)] == [[1, 2, 3], [0, 4]]
    assert first.batch.weights.tolist() == batch.weights[[1, 2, 3]].tolist()
    _, idle = dealt_to_ranks(picked(batch, [2]), 2)
    assert (len(idle.rows), len(idle.batch), idle.batch.positions) == (0, 1, 1)
    assert idle.batch.weights.tolist() == [0]
    assert [len(share.rows) for share in dealt_to_ranks(picked(batch, [2]), 2, first=1)] == [0, 1]
    behind = {Place(0, placement="after_bos"): torch.zeros(1, 32)}  # whose dummy row has a text behind it
    assert dealt_to_ranks(picked(batch, [2]), 2, None, behind)[1].batch.positions == 2


@two_ranks
def test_observes_as_a_local_host_does(host, local):
    """One update a site, in the same order of sites and rows: so any statistic comes out the same."""
    batch = example_batch(local.info())
    found, expected = (h.observe(None, batch, local.sites(), Recorder()) for h in (host, local))
    assert list(found.updates) == list(expected.updates)
    for site, updates in expected.updates.items():
        ((states, where),) = updates
        ((own, at),) = found.updates[site]
        close(own, states)
        assert [part.tolist() for part in at] == [part.tolist() for part in where]


@two_ranks
def test_losses_of_several_prompts(host, local):
    batch = example_batch(local.info())
    prompts = list(example_prompts(local).values())[:2]
    requests = [Request(prompt, picked(batch, [row]), True) for row in (0, 2, 4) for prompt in prompts]
    assert isinstance(host, PackingLM)
    for tokens in (None, 12):
        for one, request in zip(host.loss_many(requests, tokens), requests, strict=True):
            expected = local.loss(*request[:2], grad=True)
            close(one.nll, expected.nll)
            for place, gradient in expected.gradient.items():
                close(one.gradient[place], gradient)


@two_ranks
def test_each_rank_holds_half(host, local):
    """After requests of every kind, a rank holds its share of the matrices, and whole only the norms."""
    batch = example_batch(local.info())
    prompt = example_prompts(local)["deep"]
    matrices = sum(4 * w.numel() for w in random_model("llama").parameters() if w.dim() > 1)
    norms = sum(4 * w.numel() for w in random_model("llama").parameters() if w.dim() == 1)

    def check() -> None:
        for rank in host.memory():
            assert matrices // 2 <= rank.shard <= matrices // 2 + norms
            assert rank.gathered <= norms
            assert rank.resident > rank.proportional > 0

    host.loss(prompt, batch, grad=True)
    check()
    host.generate(prompt, batch, max_new=3, stop=frozenset())
    host.width(Place(1, "key"))
    check()
    host.project(Place(1, "key"), torch.zeros(3, local.info().hidden))
    check()
    host.observe(None, batch, host.sites(), Recorder())
    host.embed(torch.arange(97))
    check()


@two_ranks
def test_a_killed_rank_is_a_clean_failure_and_a_restart(host, local):
    """Ways to lose a rank are those of `test_ranks`, whose ranks start faster."""
    batch = example_batch(local.info())
    before = host.loss(None, batch).nll
    old = [rank.pid for rank in host.memory()]
    os.kill(old[1], signal.SIGSTOP)  # so that the request is surely under way, and the other rank waits
    killing = threading.Timer(0.5, os.kill, (old[1], signal.SIGKILL))
    killing.start()
    with pytest.raises(RanksLostError, match="rank 1 of the sharded model was killed by SIGKILL") as lost:
        host.loss(None, batch)
    assert "\n" not in str(lost.value)
    assert not any(Path(f"/proc/{pid}").exists() for pid in old)
    assert torch.equal(host.loss(None, batch).nll, before)
    assert not {rank.pid for rank in host.memory()} & set(old)


@two_ranks
def test_who_serves_several_trials_repeats_a_request_and_nothing_is_counted_twice(host, local):
    batch = example_batch(local.info())
    os.kill(host.memory()[0].pid, signal.SIGKILL)
    asked = Call("a", "observe", (None, batch, ["final"], Recorder()))
    found = Scheduler(host, None).submit(asked).result(300)
    expected = local.observe(None, batch, ["final"], Recorder())
    assert len(found.updates["final"]) == 1
    close(found.by_text("final")[0], expected.by_text("final")[0])


def test_what_cannot_be_sharded_is_said(llama, tmp_path):
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="torch sees no GPU"):
            load_sharded(llama.model_copy(update={"device": "cuda"}), 2)
    save_model(random_model("t5"), tmp_path / "t5")
    with pytest.raises(UserError, match="only decoders can be sharded"):
        load_sharded(ModelSpec(id=str(tmp_path / "t5"), device="cpu"), 2)
    path = Path(shutil.copytree(llama.id, tmp_path / "llama")) / "model.safetensors"
    tensors = load_file(path)
    tensors.pop("model.norm.weight")
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 of the tensors of its architecture \(model\.norm"):
        load_sharded(ModelSpec(id=str(path.parent), device="cpu"), 2)


@two_ranks
def test_a_weight_that_is_not_finite_is_refused_by_all_ranks(tmp_path):
    """In the second rank's share alone, the last in a row of the table that no check reads."""
    model = random_model("llama")
    model.model.embed_tokens.weight.data[96, 31] = float("inf")
    save_model(model, tmp_path)
    with pytest.raises(UserError, match=r"infinite values in float32, first in model\.embed_tokens\.weight"):
        load_sharded(ModelSpec(id=str(tmp_path), device="cpu"), 2, limits=LIMITS)
