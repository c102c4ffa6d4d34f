"""Observed states of the residual stream."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from softprior.models.blocks import Blocks
from softprior.models.hooks import leaving
from softprior.models.protocol import FrozenLM
from softprior.prompt import Place, Prompt
from softprior.testing.hosts.closeness import assert_close, assert_refused
from softprior.testing.hosts.examples import example_batch, example_prompts, firsts, padded, texts
from softprior.testing.hosts.oracle import (
    at_sites,
    embedding,
    hidden_states,
    passing_states,
    positions,
    stacks,
)
from softprior.testing.hosts.recorder import Recorder
from softprior.testing.literal import literal_logits


@torch.no_grad()
def check_states(host: FrozenLM, oracle: nn.Module) -> None:
    """Observed states are those of the real text tokens, each once, at every site and under every prompt.

    Without a prompt they are also held against transformers' own `hidden_states`, whose last entry is
    `final` and whose entry for the last block's output is missing. Sites of an encoder have the tokens
    before the first label, those of its decoder the others, as it reads them, without its start token.
    """
    batch = example_batch(host.info())
    rows = list(zip(texts(batch), firsts(batch), strict=True))
    sites = list(passing_states(oracle, {}, *rows[0]))
    assert [site for site in host.sites() if not site.startswith(("key.", "value."))] == sites
    for name, prompt in example_prompts(host).items():
        literal = [at_sites(oracle, passing_states(oracle, prompt, *row), row[0]) for row in rows]
        seen = host.observe(prompt, padded(batch, 2, fill=5), sites, Recorder())
        assert set(seen.updates) == set(sites)
        for site in sites:
            states, where = seen.by_text(site)
            assert states.dtype == torch.float32
            expected = [
                (row, position, text[position])
                for row, (text, first) in enumerate(rows)
                for position in positions(site, text, first)
            ]
            found = list(zip(*(part.tolist() for part in where), strict=True))
            assert found == expected, f"{name}, {site}"
            assert_close(states, torch.cat([one[site] for one in literal]), f"{name}, {site}")

    seen = host.observe(None, batch, sites, Recorder())
    own = [at_sites(oracle, hidden_states(oracle, *row), row[0]) for row in rows]
    for site in own[0]:
        assert_close(seen.by_text(site)[0], torch.cat([one[site] for one in own]), site)
    for stack, blocks in stacks(oracle).items():
        last = f"{stack}resid.{len(blocks.layers)}"
        assert set(sites) - set(own[0]) >= {last}
        states = seen.by_text(last)[0].to(embedding(oracle).weight)
        assert_close(seen.by_text(f"{stack}final")[0], blocks.final_norm(states))

    one = host.observe(None, batch, [sites[1]], Recorder())
    host.loss(None, batch)
    assert list(one.updates) == [sites[1]]
    assert sum(len(states) for states, _ in one.updates[sites[1]]) == len(seen.by_text(sites[1])[0])


@torch.no_grad()
def check_prompt_states(host: FrozenLM, oracle: nn.Module) -> None:
    """States of prompt vectors are those of the literal form in front of any text; other sites have none."""
    info, batch = host.info(), example_batch(host.info())
    sites = [*(f"resid.{block}" for block in range(info.blocks + 1)), "final"]
    for name, prompt in example_prompts(host).items():
        found = host.prompt_states(prompt, sites)
        for text in texts(batch)[:2]:
            expected = _literal_fronts(oracle, prompt, text)
            assert set(found) == set(expected), name
            for site, states in expected.items():
                assert found[site].dtype == torch.float32
                assert_close(found[site], states, f"{name}, {site}")
    kept = {Place(0): torch.ones(1, info.hidden, requires_grad=True)}
    assert set(host.prompt_states(kept, ["final"])) == {"final"}
    for site in ("resid.0", "final"):  # no gradient reaches the vectors, and none seems to
        assert not host.prompt_states(kept, [site])[site].requires_grad
    assert_refused(host.prompt_states, kept, [f"resid.{info.blocks + 1}"])
    assert_refused(host.prompt_states, kept, ["key.0"])


def check_no_prompt_states(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001  same signature
    """An encoder reads its prompt with the text, so there is nothing to give."""
    vectors = torch.ones(1, host.info().hidden)
    assert_refused(host.prompt_states, {Place(0, stack="encoder"): vectors}, ["encoder.final"])


def _literal_fronts(oracle: nn.Module, prompt: Prompt, text: list[int]) -> dict[str, Tensor]:
    """What stands in front of a text at every residual site: vectors cut at the block, then kept ones."""
    blocks = Blocks.of(oracle)
    count = len(blocks.layers)
    kept = len(prompt.get(Place(0), ()))
    found: dict[str, Tensor] = {}

    def keep(site: str, states: Tensor) -> None:
        flat = states.reshape(-1, states.shape[-1])
        found[site] = flat[: len(flat) - len(text)]

    with ExitStack() as hooks:
        for block, layer in enumerate(blocks.layers):
            site = f"resid.{block}"
            handle = layer.register_forward_pre_hook(lambda _, args, site=site: keep(site, args[0]))
            hooks.callback(handle.remove)
        last = lambda _, __, out: keep(f"resid.{count}", leaving(out))  # noqa: E731
        hooks.callback(blocks.layers[-1].register_forward_hook(last).remove)
        literal_logits(oracle, prompt, text)
    found = {site: states for site, states in found.items() if not any(p.kind == "key" for p in prompt)}
    if f"resid.{count}" in found:
        end = found[f"resid.{count}"]
        found[f"resid.{count}"] = end[len(end) - kept :]
        found["final"] = blocks.final_norm(found[f"resid.{count}"])
    # What a learned table or a factor adds on the way to block 0 belongs to no site.
    found["resid.0"] = torch.cat(
        [embedding(oracle).weight[:0]]
        + [prompt[place] for place in (Place(0, after="cut"), Place(0)) if place in prompt]
    )
    return {site: states for site, states in found.items() if len(states)}
