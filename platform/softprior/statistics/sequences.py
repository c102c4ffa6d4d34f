"""How far the tokens of one text spread and step: trajectories, and how close answer tokens lie.

Every number is of one text, next to the same number of a null for that text: shuffled or unigram tokens for
trajectories, random spans of the same row for answers. `trajectory_summary` compares the two over documents.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import wilcoxon
from torch import Tensor

from softprior.results.numbers import Number, Numbers
from softprior.seeding import derive, numpy_generator
from softprior.statistics.documents import LEAST, RESAMPLES, mean_interval

BLOCK = 512
"""Tokens of one block on a CPU: its differences stay in the cache. Temporaries of a whole batch cost several
times what the arithmetic does."""

DRAWS = 16
"""Unigram draws for each text; their mean has little noise of its own beside the text's."""

NOTHING = 1e-9
"""Share of the mean square below which a trace is rounding, and the tokens are equal."""


class RowStatistics(NamedTuple):
    """Trajectories of the rows of a packed batch.

    Attributes:
        tokens: counted tokens of each row.
        trace: trace of their unbiased covariance (half the mean squared distance of two of them), float64;
            nan for fewer than two.
        step: mean length of the row's steps, float64; nan for none.
    """

    tokens: Int[Tensor, "R"]
    trace: Float[Tensor, "R"]
    step: Float[Tensor, "R"]


def row_statistics(
    states: Float[Tensor, "N D"], rows: Int[Tensor, "N"], counted: Bool[Tensor, "N"], count: int
) -> RowStatistics:
    """Tokens, trace and step of every row, on the states' own device and in their dtype (float32 at least).

    Deviations are from each row's own mean, so an offset costs no precision: the mean's rounding enters the
    trace by its square. A step joins two counted tokens that follow each other. A token that does not count
    breaks the path: the jump over it is not a step. Its values are never used and may be anything.

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
    # Equal tokens have a trace of zero, and not of what their mean is rounded by: its logarithm is used.
    rounding = 4 * torch.finfo(states.dtype).eps * torch.linalg.vector_norm(means, dim=1).double()
    squares[squares < tokens * rounding.square()] = 0
    # `lengths` ends with a zero: the last token has no next.
    joined = counted[:-1] & counted[1:] & (rows[:-1] == rows[1:])
    path = torch.zeros(count, dtype=torch.float64, device=device)
    path.index_add_(0, rows[:-1][joined], lengths[:-1][joined].double())
    steps = torch.bincount(rows[:-1][joined], minlength=count)
    nan = torch.tensor(math.nan, dtype=torch.float64, device=device)
    return RowStatistics(
        tokens=tokens,
        trace=torch.where(tokens > 1, squares / (tokens - 1), nan),
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


def unigram_traces(
    sample: Float[Tensor, "N D"], whole: float, tokens: Int[Tensor, "R"], seed: int
) -> Float[Tensor, "R"]:
    """For each text the geometric mean of the traces of as many tokens, drawn from a sample of its task's.

    A trace's logarithm lies below that of its expectation on average, the more so the shorter the text, and
    that of the draws as far below.

    Args:
        sample: tokens of the task.
        whole: trace of the covariance of all its tokens, to which draws are scaled: a sample is less precise.
        tokens: number of counted tokens of each text.

    Returns:
        Zero for fewer than two tokens.
    """
    centred = (sample.double() - sample.double().mean(0)).cpu().numpy()
    squares = (centred**2).sum(1)
    equal = np.full(len(squares), 1 / len(squares))
    generator = numpy_generator(seed, "unigram")
    found = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for count in tokens.tolist():
            weights = generator.multinomial(count, equal, size=DRAWS) / count
            total, mean = weights @ squares, ((weights @ centred) ** 2).sum(1)
            traces = np.where(total - mean > NOTHING * total, (total - mean) * count / (count - 1), 0)
            found.append(_geometric_mean(traces * (whole / squares.mean())))
    return torch.tensor(found, dtype=torch.float64)


def _geometric_mean(values: Float[np.ndarray, "N"]) -> float:
    """The geometric mean of those above zero; zero where there is none."""
    known = values[values > 0]
    return float(np.exp(np.log(known).mean())) if len(known) else 0.0


class TrajectorySummary(Numbers):
    """A number of every text over its null. Texts of a document are not independent: documents are the unit.

    Attributes:
        texts: pairs with a ratio.
        documents: those that the texts come from.
        left_out: pairs without a ratio: a value is nan, or both are zero.
        one_sided: of `texts`, pairs in which one value is zero; in the median and the test, not in the mean.
        median_ratio: median over documents of observed / null; None if it is infinite.
        mean_log_ratio: mean over documents of the mean natural logarithm of their finite ratios; 0 is "as the
            null".
        low: end of its 95% interval over documents (`mean_interval`).
        high: the other end.
        p: two-sided Wilcoxon signed-rank test that the documents' log ratios are centred at zero.
        note: why numbers are None; empty if none is.
    """

    texts: int = 0
    documents: int = 0
    left_out: int = 0
    one_sided: int = 0
    median_ratio: Number = None
    mean_log_ratio: Number = None
    low: Number = None
    high: Number = None
    p: Number = None
    note: str = ""


def trajectory_summary(
    observed: Float[Tensor, "N"],
    null: Float[Tensor, "N"],
    documents: Int[Tensor, "N"],
    seed: int,
    resamples: int = RESAMPLES,
) -> TrajectorySummary:
    """Paired comparison of traces, steps or answers with those of each text's null.

    A zero is legal: two equal answer tokens have a trace of zero at `resid.0`, and leaving such texts out
    would hide the most local answers. A document with more zeros on one side than on the other ranks as zero
    or infinity.

    Args:
        observed: one number per text, zero or more, or nan.
        null: the null's number of the same text.
        documents: the document of each text.
        resamples: bootstrap samples of the documents.
    """
    values, nulls = observed.double().cpu().numpy(), null.double().cpu().numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values / nulls)
    known = ~np.isnan(logs)
    logs = logs[known]
    names, index = np.unique(documents.cpu().numpy()[known], return_inverse=True)
    finite = np.isfinite(logs)
    means, centres = _by_document(logs, finite, index, len(names))
    counted = TrajectorySummary(
        texts=len(logs),
        documents=len(names),
        left_out=len(values) - len(logs),
        one_sided=int((~finite).sum()),
        median_ratio=float(np.median(np.exp(centres))) if len(names) else math.nan,
    )
    if not len(means):
        return counted.amended(note=f"no text has two positive values ({len(values)} given)")
    counted = counted.amended(mean_log_ratio=float(means.mean()))
    if len(centres) < 2:
        return counted.amended(note=f"an interval needs {LEAST} documents, but there is one")
    low, high = mean_interval(means, numpy_generator(seed, "documents"), resamples)
    return counted.amended(
        low=low,
        high=high,
        note=_without(len(means)) if math.isnan(low) else "",
        # Without a difference anywhere there is nothing to rank, and nothing against the null.
        p=float(wilcoxon(centres).pvalue) if centres.any() else 1.0,
    )


def _without(documents: int) -> str:
    """Why the documents have no interval."""
    if documents < LEAST:
        return f"an interval needs {LEAST} documents, but there are {documents}"
    return f"equal in all {documents:,} documents, which says nothing of their spread"


def _by_document(
    logs: Float[np.ndarray, "N"], finite: Bool[np.ndarray, "N"], index: Int[np.ndarray, "N"], count: int
) -> tuple[Float[np.ndarray, "F"], Float[np.ndarray, "G"]]:
    """Means of the finite logarithms of the documents that have any, and values by which all are ranked."""
    number = np.bincount(index[finite], minlength=count)
    means = np.bincount(index[finite], logs[finite], count) / np.maximum(number, 1)
    lean = np.bincount(index[~finite], np.sign(logs[~finite]), count)
    return means[number > 0], np.where(lean != 0, np.copysign(np.inf, lean), means)
