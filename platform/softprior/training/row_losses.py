"""Losses of the rows of a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from softprior.liveness import alive
from softprior.models.protocol import FrozenLM
from softprior.prompt import Prompt, Row, collate
from softprior.tasks.batching import evaluation_batches


class RowLosses(NamedTuple):
    """Losses of several rows, in the order of the rows.

    Attributes:
        nll: negative log-likelihood of each row's labels, in nats.
        tokens, correct, scored: as in `Losses`.
        total: the sum of `nll`, added up pass by pass.
    """

    nll: list[float]
    tokens: list[int]
    correct: list[int]
    scored: list[int]
    total: float

    @property
    def mean(self) -> float:
        """Over label tokens."""
        return self.total / sum(self.tokens)


def row_losses(host: FrozenLM, prompt: Prompt | None, rows: Sequence[Row], batch: int) -> RowLosses:
    """Losses under a prompt, in batches of rows of similar lengths.

    Args:
        batch: most rows of one pass.
    """
    count, total = len(rows), 0.0
    found = RowLosses([0.0] * count, [0] * count, [0] * count, [0] * count, 0.0)
    for indices in evaluation_batches([len(row.tokens) for row in rows], batch):
        losses = host.loss(prompt, collate([rows[i] for i in indices]))
        alive()
        nll = losses.nll.double()
        total += float(nll.sum())
        columns = [column.tolist() for column in (nll, losses.tokens, losses.correct, losses.scored)]
        for i, *values in zip(indices, *columns, strict=True):
            found.nll[i], found.tokens[i], found.correct[i], found.scored[i] = values
    return found._replace(total=total)
