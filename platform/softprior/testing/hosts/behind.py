"""Prompts behind the first token, against the literal form that inserts them there row by row."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from softprior.models.blocks import Blocks
from softprior.models.hooks import leaving
from softprior.models.protocol import FrozenLM, PackingLM, Request
from softprior.prompt import Batch, Place, Prompt, Row, collate
from softprior.testing.hosts.attention import literal_attention
from softprior.testing.hosts.closeness import CLOSE, assert_close, assert_refused
from softprior.testing.hosts.examples import (
    MAX_NEW,
    example_batch,
    example_prompts,
    picked,
    texts,
    unlabelled,
)
from softprior.testing.hosts.losses import literal_nll
from softprior.testing.hosts.oracle import embedding, predictions
from softprior.testing.hosts.recorder import Recorder
from softprior.testing.literal import literal_logits

FIRST = 1
"""The token that all rows begin with."""


def check_behind_the_first_token(host: FrozenLM, oracle: nn.Module) -> None:
    """Everything a host does, for prompts that are kept, cut, and both, behind the first token.

    Two rows have their second token as a label: it is predicted from the last kept vector, or from the first
    token where all are cut.
    """
    batch = _batch(host)
    prompts = _prompts(host)
    for name, prompt in prompts.items():
        _check_gradients(host, oracle, name, prompt, batch)
        _check_continuations(host, oracle, name, prompt, batch)
        _check_states(host, oracle, name, prompt, batch)
        _check_attention(host, oracle, name, prompt, batch)
    one = prompts["soft"]
    there = host.compare(one, None, batch)
    assert_close(there.divergence, host.compare(None, one, batch).divergence)
    assert there.tokens.tolist() == batch.labels.sum(1).tolist()
    assert bool((there.divergence > 0).all())
    if isinstance(host, PackingLM):
        _check_several(host, prompts, batch)
    _check_refusals(host, one, batch)


def check_nothing_behind_the_first_token(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001
    """An encoder's first token sees all others, so it is not constant, and nothing can be behind it alone."""
    place = Place(0, stack="encoder", placement="after_bos")
    assert_refused(host.loss, {place: torch.ones(1, host.info().hidden)}, example_batch(host.info()))


def _batch(host: FrozenLM) -> Batch:
    batch = picked(example_batch(host.info()), [0, 1, 2, 4])  # without the row of one token
    batch.tokens[:, 0] = FIRST
    batch.labels[:2, 1] = batch.scored[0, 1] = True
    return batch


def _prompts(host: FrozenLM) -> dict[str, Prompt]:
    found = example_prompts(host)
    return {
        name: {replace(place, placement="after_bos"): vectors for place, vectors in found[name].items()}
        for name in ("soft", "deep", "keep, then cut")
        if name in found
    }


def _check_gradients(host: FrozenLM, oracle: nn.Module, name: str, prompt: Prompt, batch: Batch) -> None:
    leaves = {place: vectors.clone().requires_grad_(True) for place, vectors in prompt.items()}
    found, expected = host.loss(prompt, batch, grad=True), literal_nll(oracle, leaves, batch)
    (expected * batch.weights).sum().backward()
    assert_close(found.nll, expected, name)
    assert found.tokens.tolist() == batch.labels.sum(1).tolist()
    assert found.gradient is not None
    assert set(found.gradient) == set(prompt)
    for place, gradient in found.gradient.items():
        slope = leaves[place].grad
        assert slope is not None
        assert_close(gradient, slope, f"{name}, {place.name}")


def _check_several(host: PackingLM, prompts: dict[str, Prompt], batch: Batch) -> None:
    """Two prompts of each kind share a pass, and one of the same size in front of the text does not."""
    several = []
    for prompt in prompts.values():
        other = {place: -vectors for place, vectors in prompt.items()}
        front = {place.in_front: vectors for place, vectors in prompt.items()}
        several += [
            Request(prompt, batch, True),
            Request(front, batch, True),
            Request(other, picked(batch, [2, 0]), True),
        ]
    for request, found in zip(several, host.loss_many(several), strict=True):
        alone = host.loss(request.prompt, request.batch, grad=True)
        said = ", ".join(place.name for place in request.prompt or {})
        assert_close(found.nll, alone.nll, said)
        assert alone.gradient is not None
        assert found.gradient is not None
        assert set(found.gradient) == set(alone.gradient)
        for place, gradient in alone.gradient.items():
            assert_close(found.gradient[place], gradient, f"{said}, {place.name}")


@torch.no_grad()
def _check_continuations(host: FrozenLM, oracle: nn.Module, name: str, prompt: Prompt, batch: Batch) -> None:
    free = host.generate(prompt, unlabelled(batch), max_new=MAX_NEW, stop=frozenset())
    for text, out in zip(texts(batch), free, strict=True):
        whole = predictions(oracle, prompt, text + out[:-1], len(text))
        for step, (token, logits) in enumerate(zip(out, whole, strict=True)):
            assert logits.max() - logits[token] <= CLOSE * logits.abs().max(), f"{name}, step {step}"


@torch.no_grad()
def _check_states(host: FrozenLM, oracle: nn.Module, name: str, prompt: Prompt, batch: Batch) -> None:
    """Text tokens' states are fed in their order, the first with the others; the prompt's are its own."""
    count = host.info().blocks
    sites = [*(f"resid.{block}" for block in range(count + 1)), "final"]
    seen = host.observe(prompt, batch, [*sites, "key.1"], Recorder())
    own = host.prompt_states(prompt, sites, FIRST)
    literal = [_literal_states(oracle, prompt, text) for text in texts(batch)]
    for site in sites:
        states, where = seen.by_text(site)
        assert len(seen.updates[site]) == len(seen.updates["key.1"])
        assert where.tokens.tolist() == [token for text in texts(batch) for token in text]
        assert where.positions.tolist() == [i for text in texts(batch) for i in range(len(text))]
        assert_close(states, torch.cat([text[site] for text, _ in literal]), f"{name}, {site}")
        for _, front in literal[:2]:
            assert (site in own) == (site in front)
            if site in own:
                assert_close(own[site], front[site], f"{name}, {site}")
    keys = host.project(Place(1, "key"), seen.by_text("resid.1")[0])
    assert_close(seen.by_text("key.1")[0], keys, name)
    raw = seen.updates["resid.1"][0][1].rows.tolist()
    assert raw == sorted(raw)
    assert_refused(host.prompt_states, prompt, sites)


def _literal_states(
    oracle: Any, prompt: Prompt, text: list[int]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """States of the text's tokens and of the prompt's vectors at each site."""
    blocks = Blocks.of(oracle)
    last, kept = f"resid.{len(blocks.layers)}", sum(len(v) for p, v in prompt.items() if p.after == "keep")
    whole: dict[str, Tensor] = {}

    def keep(site: str, states: Tensor) -> None:
        whole[site] = states.reshape(-1, states.shape[-1])

    with ExitStack() as hooks:
        for block, layer in enumerate(blocks.layers):
            hook = lambda _, args, site=f"resid.{block}": keep(site, args[0])  # noqa: E731
            hooks.callback(layer.register_forward_pre_hook(hook).remove)
        end = lambda _, __, out: keep(last, leaving(out))  # noqa: E731
        hooks.callback(blocks.layers[-1].register_forward_hook(end).remove)
        literal_logits(oracle, prompt, text)
    behind = len(text) - 1
    own = {site: torch.cat([states[:1], states[len(states) - behind :]]) for site, states in whole.items()}
    front = {site: states[1 : len(states) - behind] for site, states in whole.items()}
    front[last] = front[last][len(front[last]) - kept :]
    for states in (own, front):
        states["final"] = blocks.final_norm(states[last])
    # What a learned table or a factor adds on the way to block 0 belongs to no site.
    own["resid.0"] = embedding(oracle)(torch.tensor(text))
    at_0 = [
        prompt[place]
        for after in ("cut", "keep")
        for place in prompt
        if (place.block, place.after) == (0, after)
    ]
    front["resid.0"] = torch.cat([own["resid.0"][:0], *at_0])
    return own, {site: states for site, states in front.items() if len(states)}


@torch.no_grad()
def _check_attention(host: FrozenLM, oracle: nn.Module, name: str, prompt: Prompt, batch: Batch) -> None:
    found = host.attention(prompt, batch)
    kept = any(place.after == "keep" for place in prompt)
    for row, text in enumerate(texts(batch)):
        labels = batch.labels[row, : len(text)].nonzero().squeeze(1)
        for block, weights in enumerate(literal_attention(oracle, prompt, text)):
            front = weights.shape[1] - len(text)
            before = torch.where((labels > 1) | kept, labels - 1 + front, 0)
            own = weights[before].sum(0)
            expected = torch.stack([own[1 : 1 + front].sum(), own[1] if front else torch.zeros(()), own[0]])
            shares = torch.stack([part[row, block] for part in found[:3]])
            assert_close(shares, expected, f"{name}, row {row}, block {block}")


def _check_refusals(host: FrozenLM, prompt: Prompt, batch: Batch) -> None:
    other = replace(batch, tokens=batch.tokens + torch.arange(len(batch))[:, None])
    alone = collate(
        [Row("alone", [FIRST], [False], [False]), Row("two", [FIRST, 5], [False, True], [False] * 2)]
    )
    (vectors,) = prompt.values()
    for wrong in (other, alone):
        said = assert_refused(host.loss, prompt, wrong)
        assert "placement: after_bos" in said
        assert_refused(host.generate, prompt, wrong, max_new=1, stop=frozenset())
        assert_refused(host.observe, prompt, wrong, ["resid.1"], Recorder())
    assert "choose one placement" in assert_refused(host.loss, {**prompt, Place(0): vectors}, batch)
    key = Place(0, "key", placement="after_bos")
    assert "its first token included" in assert_refused(host.width, key)
