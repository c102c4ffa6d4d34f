"""The loss of a step and its gradient at the prompt's vectors, over accumulated batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from softprior.inputs.specs import TrainingSpec
from softprior.liveness import alive
from softprior.models.protocol import FrozenLM
from softprior.prompt import Place, collate
from softprior.results.posteriors import Vectors
from softprior.tasks.batching import batch_size
from softprior.tasks.prepared import PreparedSplit


class Gradient(NamedTuple):
    """What a step's batches say of a prompt.

    Attributes:
        loss: mean over label tokens, in nats.
        labels: number of label tokens.
        at: by place, the gradient of the sum over label tokens divided by `divisor`, in nats per unit of a
            vector's values, `[P, H]`.
        positions: number of positions that the model has read.
    """

    loss: float
    labels: int
    at: dict[Place, Float[Tensor, "P H"]]
    positions: int


def gradient(
    host: FrozenLM,
    train: PreparedSplit,
    training: TrainingSpec,
    vectors: Vectors,
    batches: Iterable[list[int]],
) -> Gradient:
    """A step's mean loss, and the gradient of its sum over the divisor.

    Args:
        batches: rows of the training split, one pass through the model each.
    """
    parts = [collate([train.row(i) for i in indices]) for indices in batches]
    labels = sum(int(batch.labels.sum()) for batch in parts)
    by = divisor(train, training, labels)
    total = 0.0
    found: dict[Place, Float[Tensor, "P H"]] = {}
    for batch in parts:
        losses = host.loss(vectors, batch.weighted(batch.weights / by), grad=True)
        alive()
        assert losses.gradient is not None
        total += float(losses.nll.double().sum())
        for place, value in losses.gradient.items():
            found[place] = found[place] + value if place in found else value
    return Gradient(total / labels, labels, found, sum(batch.positions for batch in parts))


def divisor(train: PreparedSplit, training: TrainingSpec, labels: int) -> float:
    """The divisor of the sum over the labels of a step that has `labels` of them.

    A batch contains every example with the same probability, so a step has on average as many labels as
    that many examples of mean length, whichever examples an epoch leaves out.
    """
    if training.normalisation == "step":
        return labels
    return training.accumulate * batch_size(len(train), training.batch) * train.labels / len(train)
