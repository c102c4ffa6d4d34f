"""Groups losses into passes: requests of one shape, up to a budget of positions."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from softprior.liveness import alive
from softprior.models.protocol import Losses, Request
from softprior.prompt import Batch


class Piece(NamedTuple):
    """Some rows of a request that go through the model in one pass.

    Attributes:
        request: index of the request.
        rows: index of the first row, and of the row after the last one.
    """

    request: int
    rows: tuple[int, int]


def shape(request: Request) -> Hashable:
    """What two requests must have in common to share a pass: places, vectors at each, and the gradient."""
    prompt = request.prompt or {}
    return request.grad, frozenset((place, len(vectors)) for place, vectors in prompt.items())


def front(request: Request) -> int:
    """Positions of a request's prompt: the most vectors at one place. Each pass pays for them again."""
    return max((len(vectors) for vectors in (request.prompt or {}).values()), default=0)


def positions(request: Request) -> int:
    """What a request costs in a pass: its real tokens and its prompt."""
    return request.batch.positions + front(request)


def passes(requests: Sequence[Request], tokens: int | None = None) -> list[list[Piece]]:
    """Distributes requests over passes, in order, those of one shape together.

    Args:
        tokens: maximum number of positions per pass; a longer row gets a pass of its own.
    """
    laid: list[list[Piece]] = []
    filling: dict[Hashable, tuple[list[Piece], int]] = {}
    for index, request in enumerate(requests):
        kind = shape(request)
        for rows, cost in _cut(request, tokens):
            current, used = filling.get(kind, ([], 0))
            if not current or (tokens is not None and used + cost > tokens):
                current, used = [], 0
                laid.append(current)
            current.append(Piece(index, rows))
            filling[kind] = current, used + cost
    return laid


def _cut(request: Request, tokens: int | None) -> list[tuple[tuple[int, int], int]]:
    """The request's rows in runs that each fit a pass, with their positions.

    There are as few runs as possible, and these are as equal as possible (the sum of their squares is the
    least): a rest of one row would leave threads idle.
    """
    if tokens is None or positions(request) <= tokens:
        return [((0, len(request.batch)), positions(request))]
    lengths = request.batch.lengths.tolist()
    ways = [_Way(0, 0, 0, 0)]  # the best way to cut the rows up to each
    while len(ways) <= len(lengths):
        ways.append(min(_ways(lengths, front(request), tokens, ways)))
    runs, end = [], len(lengths)
    while end:
        runs.append(((ways[end].start, end), ways[end].used))
        end = ways[end].start
    return runs[::-1]


class _Way(NamedTuple):
    """A way to cut rows: number of runs, sum of their squares, and first row and positions of the last."""

    runs: int
    squares: int
    start: int
    used: int


def _ways(lengths: Sequence[int], lead: int, tokens: int, ways: Sequence[_Way]) -> Iterator[_Way]:
    """Ways to cut one row more than `ways` do, by the last run: that row, or several that fit a pass."""
    last, used = len(ways) - 1, lead
    for start in range(last, -1, -1):
        used += lengths[start]
        if used > tokens and start < last:
            return
        yield _Way(ways[start].runs + 1, ways[start].squares + used**2, start, used)


def in_passes(
    together: Callable[[list[Request]], list[Losses]], requests: Sequence[Request], tokens: int | None
) -> list[Losses]:
    """Losses of all requests, in their order.

    Args:
        together: losses of requests of one shape, in one pass.
        tokens: as in `passes`.
    """
    found: list[list[Losses]] = [[] for _ in requests]
    for pieces in passes(requests, tokens):
        alive()
        parts = [
            requests[piece.request]._replace(batch=some_rows(requests[piece.request].batch, piece.rows))
            for piece in pieces
        ]
        for piece, losses in zip(pieces, together(parts), strict=True):
            found[piece.request].append(losses)
    return [joined(parts) for parts in found]


def some_rows(batch: Batch, rows: tuple[int, int]) -> Batch:
    """A run of a batch's rows."""
    if rows == (0, len(batch)):
        return batch
    some = slice(*rows)
    return Batch(
        ids=batch.ids[some],
        tokens=batch.tokens[some],
        lengths=batch.lengths[some],
        labels=batch.labels[some],
        scored=batch.scored[some],
        weights=batch.weights[some],
    )


def chosen_rows(batch: Batch, rows: Tensor) -> Batch:
    """Some rows of a batch; if none, one token without a label, for a pass that only keeps step."""
    shown = rows if len(rows) else torch.zeros(1, dtype=torch.long)
    lengths = batch.lengths[shown] if len(rows) else torch.ones(1, dtype=torch.long)
    width = int(lengths.max())
    labels, scored = batch.labels[shown, :width], batch.scored[shown, :width]
    return Batch(
        ids=tuple(batch.ids[row] for row in shown.tolist()),
        tokens=batch.tokens[shown, :width],
        lengths=lengths,
        labels=labels if len(rows) else torch.zeros_like(labels),
        scored=scored if len(rows) else torch.zeros_like(scored),
        weights=batch.weights[shown],
    )


def one_batch(batches: Sequence[Batch]) -> Batch:
    """The rows of all batches, one after another."""
    if len(batches) == 1:
        return batches[0]
    width = max(batch.tokens.shape[1] for batch in batches)

    def table(name: str) -> Tensor:
        parts = [getattr(batch, name) for batch in batches]
        return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])

    return Batch(
        ids=tuple(row for batch in batches for row in batch.ids),
        tokens=table("tokens"),
        lengths=torch.cat([batch.lengths for batch in batches]),
        labels=table("labels"),
        scored=table("scored"),
        weights=torch.cat([batch.weights for batch in batches]),
    )


def divided(losses: Losses, counts: Sequence[int]) -> list[Losses]:
    """Splits the losses of one batch by the numbers of rows of the batches it was made of; no gradient."""
    columns = [column.split(list(counts)) for column in losses[:4]]
    rows = zip(*columns, strict=True)
    return [Losses(nll, tokens, correct, scored, None) for nll, tokens, correct, scored in rows]


def joined(parts: list[Losses]) -> Losses:
    """Losses of all rows of a request: rows one after another, gradients summed."""
    if len(parts) == 1:
        return parts[0]
    nll, tokens, correct, scored = (torch.cat(column) for column in zip(*(p[:4] for p in parts), strict=True))
    first, *others = [part.gradient for part in parts]
    if first is not None:
        gradients = [some for some in others if some is not None]
        first = {place: sum((some[place] for some in gradients), own) for place, own in first.items()}
    return Losses(nll, tokens, correct, scored, first)
