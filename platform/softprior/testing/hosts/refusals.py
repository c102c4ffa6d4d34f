"""What a host does not have, it says."""

from __future__ import annotations

import torch
from torch import nn

from softprior.models.protocol import FrozenLM
from softprior.prompt import Place, Stack
from softprior.testing.hosts.closeness import assert_close, assert_refused
from softprior.testing.hosts.examples import example_batch
from softprior.testing.hosts.recorder import Recorder


def check_refusals(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001  same signature
    """Places and sites a host does not have are refused in one sentence, and leave no trace behind."""
    info = host.info()
    batch = example_batch(info)
    before = host.loss(None, batch).nll
    stack, front = info.stack, Place(0, stack=info.stack)
    other: Stack = "encoder" if stack == "decoder" else "decoder"
    absent = [
        Place(0, kind="key", after="cut", stack=stack),
        Place(0, stack=other),
        Place(info.blocks, after="cut", stack=stack),
        Place(-1, after="cut", stack=stack),
        Place(1, after="keep", stack=stack),
    ]
    # One of keys and values alone; an encoder takes neither.
    alone = [Place(0, kind="key", stack=stack), Place(0, kind="value", stack=stack)]
    if stack == "encoder":
        absent += [*alone, Place(0, after="cut", stack=stack)]
    for place in absent:
        assert_refused(host.width, place)
    for place in (*absent, *alone):
        vectors = torch.zeros(2, info.hidden)
        for prompt in ({place: vectors}, {place: vectors, front: vectors}):
            assert_refused(host.loss, prompt, batch)
            assert_refused(host.loss, prompt, batch, grad=True)
            assert_refused(host.generate, prompt, batch, max_new=1, stop=frozenset())
            assert_refused(host.compare, None, prompt, batch)
            assert_refused(host.observe, prompt, batch, [host.sites()[0]], Recorder())

    kinds = {site.rpartition(".")[0] for site in host.sites() if site[-1].isdigit()}
    counts = {kind: sum(site.startswith(f"{kind}.") for site in host.sites()) for kind in kinds}
    elsewhere = ("final", "resid.0") if stack == "encoder" else ("encoder.final", "decoder.resid.0")
    beyond = [f"{kind}.{number}" for kind in kinds for number in (counts[kind], -1)]
    for site in ("resid", "attention.0", *elsewhere, *beyond):
        said = assert_refused(host.observe, None, batch, [host.sites()[0], site], Recorder())
        assert f"'{site}'" in said
    assert_close(host.loss(None, batch).nll, before)
