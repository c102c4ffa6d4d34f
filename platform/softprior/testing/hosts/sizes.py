"""What a host says of its model without running it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from softprior.models.blocks import position_kind
from softprior.models.protocol import FrozenLM
from softprior.prompt import Place
from softprior.testing.hosts.closeness import assert_close
from softprior.testing.hosts.examples import plain
from softprior.testing.hosts.oracle import embedding, first_norm, hidden_states, stacks
from softprior.testing.hosts.recorder import Recorder


def check_info(host: FrozenLM, oracle: Any) -> None:
    """The host speaks the protocol and tells its model's sizes."""
    info = host.info()
    assert isinstance(host, FrozenLM)
    assert info.dtype in ("float32", "float64"), "the suite is for hosts of full precision"
    assert info.dtype == str(next(oracle.parameters()).dtype).removeprefix("torch.")
    assert info.stack == ("encoder" if oracle.config.is_encoder_decoder else "decoder")
    assert info.blocks == len(next(iter(stacks(oracle).values())).layers)
    assert (info.vocabulary, info.hidden) == tuple(embedding(oracle).weight.shape)
    assert info.parameters == sum(p.numel() for p in oracle.parameters())
    assert info.embedding == position_kind(oracle)
    assert info.family == oracle.config.model_type
    assert info.positions == getattr(oracle.config, "max_position_embeddings", 2**31 - 1)
    assert host.width(Place(0, stack=info.stack)) == info.hidden


@torch.no_grad()
def check_embed(host: FrozenLM, oracle: nn.Module) -> None:
    """Embeddings are what the layer returns, what `resid.0` has and, times a factor, what block 0 receives.

    A family may add positions to them on the way, which no site has.
    """
    info, first = host.info(), host.sites()[0]
    ids = torch.arange(info.vocabulary)
    found = host.embed(ids)
    assert found.dtype == torch.float32
    assert_close(found, embedding(oracle)(ids))
    states = host.observe(None, plain(ids[:9]), [first], Recorder()).by_text(first)[0]
    assert_close(states, found[:9])
    if info.embedding == "rotary" or info.stack == "encoder":
        entering = hidden_states(oracle, ids[:9].tolist(), first=9)[first]
        assert_close(info.embedding_factor * found[:9], entering)


@torch.no_grad()
def check_normalise(host: FrozenLM, oracle: nn.Module) -> None:
    """`normalise` is the first norm of the place's block, of every block."""
    info = host.info()
    vectors = 3 * torch.randn(5, info.hidden, generator=torch.Generator().manual_seed(1))
    for block in range(info.blocks):
        found = host.normalise(Place(block, after="cut", stack=info.stack), vectors)
        assert found.dtype == torch.float32
        entering = vectors if block else info.embedding_factor * vectors
        assert_close(found, first_norm(oracle, block)(entering.to(embedding(oracle).weight)))
