"""Where the model looks under a prompt when it predicts labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from softprior.liveness import alive
from softprior.models.protocol import FrozenLM
from softprior.prompt import Batch, Prompt
from softprior.results.probed import Attended
from softprior.training.failure import require_finite


def attended(
    host: FrozenLM, initial: Prompt, final: Prompt, batches: Sequence[Batch], step: int = 0
) -> Attended:
    """Shares of attention under the trained prompt, under the untrained sample, and without a prompt.

    Raises:
        TrialFailedError: one of them is not finite; `step` is of the trained prompt, for the error.
    """
    trained, untrained, without = (shares(host, one, batches) for one in (final, initial, {}))
    for found in (trained, untrained, without):
        require_finite(step, "attention of a probe", float(found.sum()))
    (prompt, first, text), (before, first_before, text_before) = trained.mean(0), untrained.mean(0)
    return Attended(
        prompt=float(prompt),
        prompt_first=float(first),
        text_first=float(text),
        even=even(host, final, batches),
        untrained_prompt=float(before),
        untrained_prompt_first=float(first_before),
        untrained_text_first=float(text_before),
        without_text_first=float(without.mean(0)[2]),
        blocks=tuple((a, b, c) for a, b, c in trained.tolist()),
        untrained_blocks=tuple((a, b, c) for a, b, c in untrained.tolist()),
    )


def shares(host: FrozenLM, prompt: Prompt, batches: Sequence[Batch]) -> Float[Tensor, "L 3"]:
    """Mean over label tokens, by block: the share of the prompt, its first vector, the text's first token."""
    total = torch.zeros(host.info().blocks, 3, dtype=torch.double)
    for batch in batches:
        found = host.attention(prompt, batch)
        alive()
        total += torch.stack([part.double().sum(0) for part in found[:3]], 1)
    return total / _labels(batches)


def even(host: FrozenLM, prompt: Prompt, batches: Sequence[Batch]) -> float:
    """The share of the vectors among all that the predictions of labels can see, windows aside."""
    fronts = torch.zeros(host.info().blocks, dtype=torch.double)
    for place, vectors in prompt.items():
        if place.kind == "residual" and place.after == "keep":
            fronts += len(vectors)
        elif place.kind != "value":  # values stand where their keys do
            fronts[place.block] += len(vectors)
    # The first token predicts the second if all vectors behind it are cut, and sees none of them.
    blind = all(place.placement == "after_bos" and place.after == "cut" for place in prompt)
    total = 0.0
    for batch in batches:
        seen = batch.labels.nonzero()[:, 1]  # the label at position i is predicted from i tokens
        found = (fronts[:, None] / (fronts[:, None] + seen)).mean(0)
        total += float(found[seen > 1].sum() if blind else found.sum())
    return total / _labels(batches)


def _labels(batches: Sequence[Batch]) -> int:
    return sum(int(batch.labels.sum()) for batch in batches)
