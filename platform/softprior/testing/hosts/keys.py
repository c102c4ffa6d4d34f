"""Keys and values of the blocks, which a host of a decoder has to give and one of an encoder refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import DynamicCache

from softprior.models.protocol import FrozenLM
from softprior.prompt import Place
from softprior.testing.hosts.closeness import assert_close, assert_refused
from softprior.testing.hosts.examples import MAX_NEW, example_batch, example_prompts, padded, plain
from softprior.testing.hosts.oracle import with_positions
from softprior.testing.hosts.recorder import Recorder


def _whole(part: Tensor) -> Tensor:
    """The keys or values of one text, heads side by side."""
    return part[0].transpose(0, 1).flatten(1)


@torch.no_grad()
def attended(oracle: Any, ids: Int[Tensor, "T"]) -> dict[int, tuple[Tensor, Tensor]]:
    """A text's keys (after rotary and norms) and values [T D] by block, from transformers' cache."""
    cache: Any = DynamicCache()  # its layers are those of attention
    oracle(input_ids=ids[None], past_key_values=cache, use_cache=True)
    return {block: (_whole(layer.keys), _whole(layer.values)) for block, layer in enumerate(cache.layers)}


@torch.no_grad()
def check_projections(host: FrozenLM, oracle: nn.Module) -> None:
    """Projected states, keys turned to their positions, are what transformers' cache holds; and back."""
    ids = example_batch(host.info()).tokens[2]
    own = attended(oracle, ids)
    states = host.observe(None, plain(ids), [f"resid.{block}" for block in own], Recorder())
    for block, (keys, values) in own.items():
        here, where = states.by_text(f"resid.{block}")
        here = here if block else with_positions(oracle, {}, here, where.positions)
        key, value = Place(block, "key"), Place(block, "value")
        turned = host.rotate(key, host.project(key, here))
        assert turned.shape == (len(ids), host.width(key))
        assert turned.dtype == torch.float32
        assert_close(turned, keys, key.name)
        assert_close(host.project(value, here), values, value.name)
        assert_close(host.rotate(key, keys, inverse=True), host.project(key, here), key.name)
        assert_close(host.rotate(key, host.rotate(key, keys), inverse=True), keys, key.name)


@torch.no_grad()
def check_key_sites(host: FrozenLM, oracle: nn.Module) -> None:
    """`key.l` and `value.l` are what `project` makes of `resid.l`, under every prompt, token by token."""
    batch = padded(example_batch(host.info()), 2, fill=5)
    blocks = range(host.info().blocks)
    residual = [f"resid.{block}" for block in blocks]
    made = [f"{kind}.{block}" for kind in ("key", "value") for block in blocks]
    assert [site for site in host.sites() if site.startswith(("key.", "value."))] == made
    for name, prompt in example_prompts(host).items():
        seen = host.observe(prompt, batch, [*residual, *made], Recorder())
        # Deep prompts are cut from their block's output, whether its keys were asked for or not.
        alone = host.observe(prompt, batch, residual, Recorder())
        for block in blocks:
            states, where = seen.by_text(f"resid.{block}")
            assert_close(states, alone.by_text(f"resid.{block}")[0], f"{name}, resid.{block}")
            entering = states if block else with_positions(oracle, prompt, states, where.positions)
            for place in (Place(block, "key"), Place(block, "value")):
                site = f"{place.kind}.{block}"
                found, at = seen.by_text(site)
                assert found.dtype == torch.float32
                assert_close(found, host.project(place, entering), f"{name}, {site}")
                assert [part.tolist() for part in at] == [part.tolist() for part in where], f"{name}, {site}"
    one = host.observe(None, batch, [made[-1]], Recorder())
    assert list(one.updates) == [made[-1]]


@torch.no_grad()
def check_prefix_of_a_text(host: FrozenLM, oracle: nn.Module) -> None:
    """A prefix made of a text's own keys and values gives what the text in front of the rows gives."""
    batch = example_batch(host.info())
    front = batch.tokens[2, :5]
    prompt: dict[Place, Tensor] = {}
    for block, (keys, values) in attended(oracle, front).items():
        prompt |= {Place(block, "key"): keys, Place(block, "value"): values}
    longer = replace(
        batch,
        tokens=torch.cat([front.expand(len(batch), -1), batch.tokens], 1),
        lengths=batch.lengths + 5,
        labels=torch.cat([torch.zeros(len(batch), 5, dtype=torch.bool), batch.labels], 1),
        scored=torch.cat([torch.zeros(len(batch), 5, dtype=torch.bool), batch.scored], 1),
    )
    assert_close(host.loss(prompt, batch).nll, host.loss(None, longer).nll.cpu())
    generated = host.generate(prompt, batch, max_new=MAX_NEW, stop=frozenset())
    assert generated == host.generate(None, longer, max_new=MAX_NEW, stop=frozenset())


def check_no_keys(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001  same signature
    """Where prompts stand before an encoder, nobody is given keys and values."""
    assert not any("key." in site or "value." in site for site in host.sites())
    vectors = torch.zeros(2, host.info().hidden)
    for place in (Place(0, "key", stack="encoder"), Place(0, "value", stack="encoder")):
        assert_refused(host.project, place, vectors)
        assert_refused(host.rotate, place, vectors)
