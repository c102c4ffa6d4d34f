"""Soft prompts and prefixes against Hugging Face PEFT: same vectors, same right-padded batch."""

import pytest
import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

from softprior.methods import METHODS
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.prompt import Place
from softprior.testing.families import random_model
from softprior.testing.hosts import example_batch

VECTORS = 5

ROUNDING = 1e-5
"""Relative to the largest number; float32 sums in another order. Observed: 1e-6."""


def pefts_loss(peft, batch):
    """The mean over all labels of the batch, as PEFT's models return it."""
    attended = torch.arange(batch.tokens.shape[1])[None] < batch.lengths[:, None]
    labels = batch.tokens.masked_fill(~batch.labels, -100)
    return peft(input_ids=batch.tokens, attention_mask=attended.long(), labels=labels).loss


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_loss_and_gradient_equal_those_of_peft(family):
    host = LocalLM(random_model(family, ATTENTION), "weights")
    info = host.info()
    batch = example_batch(info)
    vectors = torch.randn(VECTORS, info.hidden, generator=torch.Generator().manual_seed(1))
    # PEFT returns the mean over all labels of the batch.
    weights = torch.full((len(batch),), 1 / int(batch.labels.sum()))
    ours = host.loss({Place(0): vectors}, batch.weighted(weights), grad=True)

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=VECTORS)
    peft = get_peft_model(random_model(family), config)
    trained = peft.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        trained.copy_(vectors)
    theirs = pefts_loss(peft, batch)
    theirs.backward()

    torch.testing.assert_close((ours.nll * weights).sum(), theirs.detach(), rtol=ROUNDING, atol=0)
    assert trained.grad is not None
    largest = float(trained.grad.abs().max())
    torch.testing.assert_close(ours.gradient[Place(0)], trained.grad, rtol=0, atol=ROUNDING * largest)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_a_prefix_has_the_loss_and_gradient_of_pefts_prefix_tuning(family):
    """Grouped queries, norms of keys with sliding windows, and learned positions.

    PEFT's weights are one row a vector: key and value of block 0, then of block 1, heads flattened.
    """
    host = LocalLM(random_model(family, ATTENTION), "weights")
    info = host.info()
    batch = example_batch(info)
    places = METHODS["prefix"](tokens=VECTORS).places(info.blocks)
    generator = torch.Generator().manual_seed(1)
    prompt = {place: torch.randn(VECTORS, host.width(place), generator=generator) for place in places}
    weights = torch.full((len(batch),), 1 / int(batch.labels.sum()))
    ours = host.loss(prompt, batch.weighted(weights), grad=True)

    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=VECTORS)
    peft = get_peft_model(random_model(family), config)
    trained = peft.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        trained.copy_(torch.cat([prompt[place] for place in places], 1))
    theirs = pefts_loss(peft, batch)
    theirs.backward()

    torch.testing.assert_close((ours.nll * weights).sum(), theirs.detach(), rtol=ROUNDING, atol=0)
    found = torch.cat([ours.gradient[place] for place in places], 1)
    largest = float(trained.grad.abs().max())
    torch.testing.assert_close(found, trained.grad, rtol=0, atol=ROUNDING * largest)
