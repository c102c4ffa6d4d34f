"""Soft prompts against Hugging Face PEFT's prompt tuning: same vectors, same right-padded batch."""

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model

from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.prompt import Place
from softprior.testing.families import random_model
from softprior.testing.hosts import example_batch

VECTORS = 5

ROUNDING = 1e-5
"""Relative to the largest number; float32 sums in another order. Observed: 1e-6."""


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
    attended = torch.arange(batch.tokens.shape[1])[None] < batch.lengths[:, None]
    theirs = peft(
        input_ids=batch.tokens,
        attention_mask=attended.long(),
        labels=batch.tokens.masked_fill(~batch.labels, -100),
    ).loss
    theirs.backward()

    torch.testing.assert_close((ours.nll * weights).sum(), theirs.detach(), rtol=ROUNDING, atol=0)
    assert trained.grad is not None
    largest = float(trained.grad.abs().max())
    torch.testing.assert_close(ours.gradient[Place(0)], trained.grad, rtol=0, atol=ROUNDING * largest)
