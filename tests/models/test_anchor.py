"""Prompts behind the first token, against transformers given `[bos, P, rest]` by hand."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.prompt import Place, Row, collate
from softprior.testing.families import random_model
from softprior.testing.hosts.closeness import assert_close

BOS, COUNT = 1, 3
TEXTS = ([BOS, 5, 6, 7, 8, 9, 11, 40, 12, 13], [BOS, 9, 30, 31])
"""The first is longer than the window of the families that have one."""

FAMILIES = ["llama", "gemma2", "gemma3", "mistral", "gpt2"]
"""Rotary and learned positions, softcaps, factors of embeddings, and windows in some or all blocks."""


def prompt_of(host: LocalLM, places: list[Place]) -> dict[Place, Tensor]:
    info, generator = host.info(), torch.Generator().manual_seed(0)
    size = host.embed(torch.arange(info.vocabulary)).square().mean().sqrt()
    return {place: size * torch.randn(COUNT, info.hidden, generator=generator) for place in places}


def by_hand(network: Any, prompt: dict[Place, Tensor], tokens: list[int]) -> Tensor:
    """transformers' own logits behind each of [bos, P, rest].

    Where every block has vectors of its own, hooks put them in place of whatever stands at positions 1 to P.
    """
    embeddings = network.get_input_embeddings()(torch.tensor(tokens))
    at_0, *deeper = [prompt[place] for place in sorted(prompt)]
    blocks = network.get_decoder().h if hasattr(network.get_decoder(), "h") else network.get_decoder().layers

    def replaced(vectors: Tensor) -> Any:
        def hook(_: object, args: Any, kwargs: Any) -> Any:
            states = args[0]
            states = torch.cat([states[:, :1], vectors[None], states[:, 1 + COUNT :]], 1)
            return (states, *args[1:]), kwargs

        return hook

    with ExitStack() as hooks:
        for block, vectors in enumerate(deeper, start=1):
            handle = blocks[block].register_forward_pre_hook(replaced(vectors), with_kwargs=True)
            hooks.callback(handle.remove)
        whole = torch.cat([embeddings[:1], at_0, embeddings[1:]])
        found: Tensor = network(inputs_embeds=whole[None], use_cache=False).logits[0]
        return found


@pytest.mark.parametrize("kind", ["soft", "deep"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_what_transformers_computes_of_the_same_sequence(family: str, kind: str) -> None:
    """Logits, losses and gradients; every token but the first is a label, also the one behind the prompt."""
    host, network = LocalLM(random_model(family, ATTENTION), "weights"), random_model(family)
    network.requires_grad_(False)
    blocks = host.info().blocks if kind == "deep" else 1
    after = "cut" if kind == "deep" else "keep"
    prompt = prompt_of(host, [Place(block, after=after, placement="after_bos") for block in range(blocks)])
    labels = [[False, *[True] * (len(tokens) - 1)] for tokens in TEXTS]
    batch = collate([Row(str(i), TEXTS[i], marks, marks) for i, marks in enumerate(labels)])
    found = host.loss(prompt, batch, grad=True)

    leaves = {place: vectors.clone().requires_grad_(True) for place, vectors in prompt.items()}
    losses, logits = [], []
    for tokens in TEXTS:
        own = by_hand(network, leaves, tokens)
        # Of a cut prompt nothing is left in the sequence, so that the first token predicts the second.
        second = own[0] if kind == "deep" else own[COUNT]
        logits.append(torch.cat([second[None], own[1 + COUNT : -1]]))
        losses.append(cross_entropy(logits[-1], torch.tensor(tokens[1:]), reduction="sum"))
    assert_close(host.logits(prompt, batch), torch.cat(logits))
    assert_close(found.nll, torch.stack(losses))
    torch.stack(losses).sum().backward()
    assert found.gradient is not None
    for place, leaf in leaves.items():
        assert leaf.grad is not None
        assert_close(found.gradient[place], leaf.grad, place.name)

    in_front = {place.in_front: vectors for place, vectors in prompt.items()}
    assert not torch.allclose(host.loss(in_front, batch).nll, found.nll, rtol=1e-3)
    nothing = {place: vectors[:0] for place, vectors in prompt.items()}
    assert_close(host.loss(nothing, batch).nll, host.loss(None, batch).nll)


def test_the_constant_is_computed_once_for_a_token() -> None:
    host = LocalLM(random_model("llama", ATTENTION), "weights")
    prompt = prompt_of(host, [Place(0, placement="after_bos")])
    entered: list[int] = []
    layer = host._blocks.layers[0]
    layer.register_forward_pre_hook(lambda _, args: entered.append(args[0].shape[1]))
    rows = [Row("a", list(TEXTS[1]), [False] * 4, [False] * 4)]
    host.loss(None, collate(rows))  # the first pass measures the model
    entered.clear()
    for _ in range(2):
        host.loss(prompt, collate(rows))
    assert entered == [1, 1 + COUNT + 3, 1 + COUNT + 3]
