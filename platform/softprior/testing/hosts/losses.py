"""Losses of labels: what they are of, and what they do not depend on."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softprior.models.protocol import FrozenLM
from softprior.prompt import Batch, Prompt
from softprior.testing.hosts.closeness import assert_close
from softprior.testing.hosts.examples import LENGTHS, example_batch, example_prompts, few_prompts, picked
from softprior.testing.hosts.oracle import label_logs, predictions


def literal_nll(oracle: nn.Module, prompt: Prompt, batch: Batch) -> Float[Tensor, "B"]:
    """Negative log-likelihood of each row's labels."""
    sums = []
    for row in range(len(batch)):
        logs, where = label_logs(oracle, prompt, batch, row)
        sums.append(-logs.gather(1, batch.tokens[row, where][:, None]).sum())
    return torch.stack(sums)


def _correct(oracle: nn.Module, prompt: Prompt, batch: Batch) -> list[int]:
    counts = []
    for row in range(len(batch)):
        logs, where = label_logs(oracle, prompt, batch, row)
        right = (logs.argmax(-1) == batch.tokens[row, where]) & batch.scored[row, where]
        counts.append(int(right.sum()))
    return counts


@torch.no_grad()
def check_losses(host: FrozenLM, oracle: nn.Module) -> None:
    """Loss, label count and teacher-forced accuracy of each row equal the literal form's."""
    batch = example_batch(host.info())
    for name, prompt in example_prompts(host).items():
        found = host.loss(prompt, batch)
        assert found.gradient is None
        assert_close(found.nll, literal_nll(oracle, prompt, batch), name)
        assert found.tokens.tolist() == batch.labels.sum(1).tolist()
        assert found.scored.tolist() == batch.scored.sum(1).tolist()
        assert found.correct.tolist() == _correct(oracle, prompt, batch), name
    assert torch.equal(host.loss(None, batch).nll, host.loss({}, batch).nll)


@torch.no_grad()
def check_labels(host: FrozenLM, oracle: nn.Module) -> None:
    """Labels decide which tokens are predicted, each from what stands before it and from nothing else."""
    length = LENGTHS[2]
    rows = picked(example_batch(host.info()), [2] * (length - 1))
    text = rows.tokens[0].tolist()
    each = torch.arange(1, length)[:, None]
    labels = torch.arange(length) == each
    single = replace(rows, labels=labels, scored=labels)
    changed = (rows.tokens + 1) % host.info().vocabulary
    later = replace(single, tokens=torch.where(torch.arange(length) > each, changed, rows.tokens))
    for name, prompt in few_prompts(host).items():
        losses = host.loss(prompt, single).nll.cpu()
        expected = []
        for position in range(1, length):
            logs = predictions(oracle, prompt, text[: position + 1], position)[0].double().log_softmax(-1)
            expected.append(-float(logs[text[position]]))
        assert_close(losses, torch.tensor(expected), name)
        assert_close(host.loss(prompt, later).nll, losses, name)
        assert len({round(loss, 4) for loss in losses.tolist()}) == length - 1, (
            "the model tells positions apart"
        )
