"""How far two prompts' outputs differ."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softprior.models.protocol import FrozenLM
from softprior.prompt import Batch, Prompt
from softprior.testing.hosts.closeness import assert_close
from softprior.testing.hosts.examples import example_batch, few_prompts
from softprior.testing.hosts.oracle import label_logs


@torch.no_grad()
def check_comparison(host: FrozenLM, oracle: nn.Module) -> None:
    """Divergence is Jensen-Shannon's: zero for equal prompts, symmetric, at most ln 2 a label."""
    batch = example_batch(host.info())
    prompts = few_prompts(host)
    counts = batch.labels.sum(1)
    names = list(prompts)
    for first, second in zip(names, names[1:] + names[:1], strict=True):
        a, b = prompts[first], prompts[second]
        same, found, back = host.compare(a, a, batch), host.compare(a, b, batch), host.compare(b, a, batch)
        # One label's divergence of equal outputs is zero up to the rounding of a sum over the vocabulary.
        assert same.divergence.abs().max() < 1e-9
        assert same.agree.tolist() == found.tokens.tolist() == counts.tolist()
        assert_close(found.divergence, back.divergence)
        assert bool((found.divergence.cpu() <= math.log(2) * counts).all())
        divergence, agree = _literal(oracle, a, b, batch)
        assert_close(found.divergence, divergence, f"{first} against {second}")
        assert found.agree.tolist() == back.agree.tolist() == agree


def _literal(oracle: nn.Module, a: Prompt, b: Prompt, batch: Batch) -> tuple[Float[Tensor, "B"], list[int]]:
    """Jensen-Shannon divergence as the entropy of the mean less the mean of the entropies, and agreement."""

    def entropy(p: Tensor) -> Tensor:
        found: Tensor = -torch.special.xlogy(p, p).sum()
        return found

    divergence, agree = [], []
    for row in range(len(batch)):
        p, q = (label_logs(oracle, prompt, batch, row)[0].exp() for prompt in (a, b))
        divergence.append(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2)
        agree.append(int((p.argmax(-1) == q.argmax(-1)).sum()))
    return torch.stack(divergence), agree
