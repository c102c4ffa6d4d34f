"""Observed states of the residual stream."""

from __future__ import annotations

import torch
from torch import nn

from softprior.models.protocol import FrozenLM
from softprior.testing.hosts.closeness import assert_close
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
