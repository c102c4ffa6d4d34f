"""How far the tokens of one text spread and step: trajectories, and how close answer tokens lie.

Every number is of one text, next to the same number of a null for that text: shuffled or unigram tokens for
trajectories, a random span of the same row for answers. `trajectory_summary` compares the two over texts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import wilcoxon
from torch import Tensor

from softprior.seeding import derive, numpy_generator
from softprior.statistics.documents import interval

BLOCK = 512
"""Tokens of one block on a CPU: its differences stay in the cache. Temporaries of a whole batch cost several
times what the arithmetic does."""


def trace(states: Float[Tensor, "T D"]) -> float:
    """Trace of the unbiased covariance of a text's tokens; nan for fewer than two."""
    return float(states.double().var(0, correction=1).sum()) if len(states) > 1 else math.nan


def spread(states: Float[Tensor, "T D"]) -> float:
    """Mean squared distance over the pairs of tokens, which is twice the trace; nan for fewer than two."""
    return 2 * trace(states)


def step(states: Float[Tensor, "T D"]) -> float:
    """Mean Euclidean length of the steps from a token to the next; nan for fewer than two tokens."""
    return float(states.double().diff(dim=0).norm(dim=1).mean()) if len(states) > 1 else math.nan


class RowStatistics(NamedTuple):
    """Trajectories of the rows of a packed batch.

    Attributes:
        tokens: counted tokens of each row.
        trace: trace of their unbiased covariance, float64; nan for fewer than two. `spread` is twice that.
        steps: steps of each row.
        step: their mean length, float64; nan for none.
    """

    tokens: Int[Tensor, "R"]
    trace: Float[Tensor, "R"]
    steps: Int[Tensor, "R"]
    step: Float[Tensor, "R"]


def row_statistics(
    states: Float[Tensor, "N D"], rows: Int[Tensor, "N"], counted: Bool[Tensor, "N"], count: int
) -> RowStatistics:
    """`trace` and `step` of every row, on the states' own device and in their dtype (float32 at least).

    Deviations are from each row's own mean, so an offset costs no precision: the mean's rounding enters the
    trace by its square. A step joins two counted tokens that follow each other. A token that does not count
    breaks the path: the jump over it is no step. Its values are never used and may be anything.

    Args:
        states: tokens of all rows, one after another.
        rows: row of each token, ascending.
        counted: which tokens count (no pads, no sinks; or those of the answer).
        count: R; rows may be without tokens.
    """
    if states.dtype in (torch.float16, torch.bfloat16):
        states = states.float()
    device = states.device
    chosen, chosen_rows = counted.nonzero()[:, 0], rows[counted]
    tokens = torch.bincount(chosen_rows, minlength=count)
    # The mean of each row in one pass, without a copy of the tokens that count.
    means = torch.nn.functional.embedding_bag(chosen, states, tokens.cumsum(0) - tokens, mode="mean")

    deviations, lengths = (torch.zeros(len(states), dtype=states.dtype, device=device) for _ in range(2))
    size = BLOCK if device.type == "cpu" else max(len(states), 1)
    for start in range(0, len(states), size):
        here = slice(start, start + size)
        deviations[here] = torch.linalg.vector_norm(states[here] - means[rows[here]], dim=1)
        before, after = states[start : start + size], states[start + 1 : start + size + 1]
        lengths[start : start + len(after)] = torch.linalg.vector_norm(after - before[: len(after)], dim=1)

    squares = torch.zeros(count, dtype=torch.float64, device=device)
    squares.index_add_(0, chosen_rows, deviations[chosen].double().square())
    # `lengths` ends with a zero: the last token has no next.
    joined = counted[:-1] & counted[1:] & (rows[:-1] == rows[1:])
    path = torch.zeros(count, dtype=torch.float64, device=device)
    path.index_add_(0, rows[:-1][joined], lengths[:-1][joined].double())
    steps = torch.bincount(rows[:-1][joined], minlength=count)
    nan = torch.tensor(math.nan, dtype=torch.float64, device=device)
    return RowStatistics(
        tokens=tokens,
        trace=torch.where(tokens > 1, squares / (tokens - 1), nan),
        steps=steps,
        step=torch.where(steps > 0, path / steps, nan),
    )


def random_span(
    candidates: Int[Tensor, "R"], lengths: Int[Tensor, "R"], documents: Int[Tensor, "R"], seed: int
) -> Int[Tensor, "R"]:
    """Start of a random span of a given length among the first `candidates` tokens of each row.

    Every start is equally likely (to 2^-40), and is keyed by seed and document alone: the same document gets
    the same span in any batch, order and process.

    Args:
        candidates: tokens of the row that a span may cover, side by side: those before the answer.
        lengths: of the spans, that is, of the answers.
        documents: the documents' hashes.

    Returns:
        Start in [0, candidates - length]; -1 where the length is below one or there is no room.
    """
    draws = torch.tensor(
        [derive(seed, "random span", document) for document in documents.tolist()], dtype=torch.int64
    )
    room = candidates - lengths + 1
    starts = draws.to(candidates.device) % room.clamp(min=1)
    return torch.where((room > 0) & (lengths > 0), starts, -1)


@dataclass(frozen=True)
class TrajectorySummary:
    """A number of every text over its null, over texts.

    Attributes:
        texts: pairs with a ratio.
        left_out: pairs without one: a value is nan, or both are zero.
        one_sided: of `texts`, pairs in which one value is zero; in the median and the test, not in the mean.
        median_ratio: median of observed / null, in [0, inf].
        mean_log_ratio: mean of the natural logarithm of the finite ratios; 0 is "as the null".
        low: end of its 95% percentile interval over texts.
        high: the other end.
        p: two-sided Wilcoxon signed-rank test that the log ratios are centred at zero.
        note: why numbers are nan; empty if none is.
    """

    texts: int
    left_out: int
    one_sided: int
    median_ratio: float
    mean_log_ratio: float
    low: float
    high: float
    p: float
    note: str


def trajectory_summary(
    observed: Float[Tensor, "N"], null: Float[Tensor, "N"], seed: int, resamples: int = 1000
) -> TrajectorySummary:
    """Paired comparison of traces, steps or spreads with those of each text's null.

    Answer locality is the same with spreads of answers and of random spans. A zero is legal: two equal answer
    tokens have a spread of zero at `resid.0`, and leaving such texts out would hide the most local answers.

    Args:
        observed: one number a text, zero or more, or nan.
        null: the null's number of the same text.
        resamples: bootstrap samples of the texts.
    """
    values, nulls = observed.double().cpu().numpy(), null.double().cpu().numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = values / nulls
        logs = np.log(ratios)
    known = ~np.isnan(ratios)
    ratios, logs = ratios[known], logs[known]
    finite = logs[np.isfinite(logs)]
    texts, left_out = len(ratios), len(values) - len(ratios)
    if not len(finite):
        note = f"no text has two positive values ({len(values)} given)"
        median = float(np.median(ratios)) if texts else math.nan
        return TrajectorySummary(texts, left_out, texts, median, math.nan, math.nan, math.nan, math.nan, note)
    generator = numpy_generator(seed, "texts")
    draws = (generator.integers(0, len(finite), len(finite)) for _ in range(resamples))
    low, high = interval(np.array([finite[draw].mean() for draw in draws]))
    return TrajectorySummary(
        texts=texts,
        left_out=left_out,
        one_sided=texts - len(finite),
        median_ratio=float(np.median(ratios)),
        mean_log_ratio=float(finite.mean()),
        low=low,
        high=high,
        # Without a difference anywhere there is nothing to rank, and nothing against the null.
        p=float(wilcoxon(logs).pvalue) if logs.any() else 1.0,
        note="",
    )
