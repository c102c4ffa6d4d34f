"""Where predictions look: shares of attention, against the weights of transformers' eager attention."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softprior.models.blocks import Blocks
from softprior.models.keys import attention_of
from softprior.models.protocol import FrozenLM
from softprior.prompt import Prompt
from softprior.testing.hosts.closeness import assert_close, assert_refused
from softprior.testing.hosts.examples import example_batch, example_prompts, texts
from softprior.testing.literal import literal_logits


@torch.no_grad()
def check_attention(host: FrozenLM, oracle: nn.Module) -> None:
    """The shares of each row and block equal those of the literal form, and are those of a softmax."""
    batch = example_batch(host.info())
    for name, prompt in example_prompts(host).items():
        found = host.attention(prompt, batch)
        assert found.tokens.tolist() == batch.labels.sum(1).tolist()
        for row, text in enumerate(texts(batch)):
            labels = batch.labels[row, : len(text)].nonzero().squeeze(1)
            whole = literal_attention(oracle, prompt, text)
            for block, weights in enumerate(whole):
                front = weights.shape[1] - len(text)
                own = weights[labels - 1 + weights.shape[0] - len(text)].sum(0)
                first = own[0] if front else torch.zeros(())
                expected = torch.stack([own[:front].sum(), first, own[front]])
                shares = torch.stack([part[row, block] for part in found[:3]])
                assert_close(shares, expected, f"{name}, row {row}, block {block}")
    nothing = host.attention(None, batch)
    assert float(nothing.prompt.abs().max()) == float(nothing.first.abs().max()) == 0


def literal_attention(oracle: Any, prompt: Prompt, text: list[int]) -> list[Float[Tensor, "T S"]]:
    """The weights of every block, means over heads, of one row with what stands in front of it."""
    found: list[Tensor] = []
    with ExitStack() as hooks:
        for layer in Blocks.of(oracle).layers:
            attention = attention_of(layer)
            assert attention is not None
            handle = attention.register_forward_hook(lambda _, __, out: found.append(out[1][0].mean(0)))
            hooks.callback(handle.remove)
        literal_logits(oracle, prompt, text)
    return found


def check_no_attention(host: FrozenLM, oracle: nn.Module) -> None:  # noqa: ARG001
    """A host whose predictions do not look at the prompt says so."""
    assert_refused(host.attention, None, example_batch(host.info()))
