"""Two tasks at one site, and which two of all are nearest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from softprior.activations.findings.common import ALL, PERMUTATIONS
from softprior.activations.findings.lexical import Lexical, lexical_findings
from softprior.errors import UserError
from softprior.results.numbers import Number, Numbers
from softprior.seeding import numpy_generator
from softprior.statistics.clusters import NearestTasks, Separation, nearest_tasks, separation
from softprior.statistics.gaussian_kernel import gaussian_kernel
from softprior.statistics.points import Points, matched, position_bins
from softprior.statistics.probe import Probe, probe
from softprior.statistics.store import load_statistics
from softprior.statistics.swaps import Strata, Swaps, kernel_swaps

MOST = 2000
"""Tokens of each task that are compared: the kernel has the square of both tasks' (128 MB)."""


class PairFindings(Numbers):
    """Two tasks at one site.

    Attributes:
        compared: tokens of each task that take part: all of its sample, or `MOST` of them (`_some`).
        sampled: tokens of each task's sample.
        separation: how far apart they are, on equally many tokens at like positions (`points.matched`).
        swaps: whether they differ at all, on all tokens compared, within bins of positions.
        probe: whether a linear probe tells their tokens apart, on the matched ones.
        lexical: both again within token ids, so that the words themselves tell nothing.
        holm: the p-value of `swaps`, corrected over the sites of the pair, as are the others.
        probe_holm: that of `probe`.
        lexical_holm: that of the swaps of `lexical`.
        lexical_probe_holm: that of its probe.
    """

    compared: tuple[int, int]
    sampled: tuple[int, int]
    separation: Separation
    swaps: Swaps
    probe: Probe
    lexical: Lexical
    holm: Number = None
    probe_holm: Number = None
    lexical_holm: Number = None
    lexical_probe_holm: Number = None


class NearestFindings(NearestTasks):
    """Which two of three or more tasks are nearest at one site, see `NearestTasks`.

    Attributes:
        holm: its p-value, corrected over sites.
    """

    holm: Number = None


def pair_findings(
    store: Path, a: str, b: str, site: str, seed: int, permutations: int = PERMUTATIONS
) -> PairFindings:
    """How far apart two tasks are at a site, on the samples of their tokens without sinks.

    Raises:
        UserError: a file is missing or damaged, or does not say where its vectors come from.
    """
    whole = [_points(store, task, site) for task in (a, b)]
    (one, words), (other, other_words) = map(_some, whole)
    left, right = matched([one, other], seed)
    kernel, bandwidth = gaussian_kernel(np.concatenate([one.vectors.numpy(), other.vectors.numpy()]))
    swaps = Swaps(note="all vectors are equal")
    if not math.isnan(bandwidth):
        bins = position_bins([own.positions.numpy() for own in (one, other)])
        first, second = (
            Strata(own.documents.numpy(), places) for own, places in zip((one, other), bins, strict=True)
        )
        swaps = kernel_swaps(first, second, kernel, seed, permutations)
    return PairFindings(
        compared=(len(one.documents), len(other.documents)),
        sampled=(len(whole[0].points.documents), len(whole[1].points.documents)),
        separation=separation(left, right, seed),
        swaps=swaps,
        probe=probe(left, right, seed, permutations=permutations),
        lexical=lexical_findings((one, words), (other, other_words), kernel, seed, permutations),
    )


def nearest_findings(
    store: Path, tasks: Sequence[str], site: str, seed: int, permutations: int = PERMUTATIONS
) -> NearestFindings:
    """Which two of three or more tasks are nearest at a site, on the samples of their tokens without sinks.

    Args:
        permutations: half the bootstrap samples, whose p-value has two sides.

    Raises:
        UserError: as of `pair_findings`.
    """
    points = {task: _points(store, task, site).points for task in tasks}
    return NearestFindings(**dict(nearest_tasks(points, seed, resamples=2 * permutations + 1)))


class _Sampled(NamedTuple):
    """The sampled tokens of a task; their ids, which a store made from arrays does not have, and keys."""

    points: Points
    words: Tensor | None
    keys: Tensor | None


def _points(store: Path, task: str, site: str) -> _Sampled:
    found = load_statistics(store, task, site, ALL, None)
    if not {"document", "position"} <= set(found.facts):
        raise UserError(
            f"the statistics of {task} at {site} in {store} do not say which document their sample is from; "
            "make them with python -m jobs.activations"
        )
    points = Points(found.sample, found.facts["document"], found.facts["position"])
    return _Sampled(points, found.facts.get("token"), found.facts.get("key"))


def _some(found: _Sampled) -> tuple[Points, Tensor | None]:
    """At most `MOST` of the tokens and their ids, always the same.

    Each document gets its share, rounded up or down: its tokens, in the order of their keys, are placed at
    even steps from a random start of its own, and the lowest ones are kept.
    """
    points, words, keys = found
    if len(points.documents) <= MOST:
        return points, words
    order = np.arange(len(points.documents)) if keys is None else keys.numpy()
    _, index, counts = np.unique(points.documents.numpy(), return_inverse=True, return_counts=True)
    by_document = np.lexsort([order, index])
    rank = np.empty(len(index), np.int64)
    rank[by_document] = np.arange(len(index)) - (np.cumsum(counts) - counts)[index[by_document]]
    starts = numpy_generator(0, "pair tokens").random(len(counts))
    kept = np.sort(np.argsort((rank + starts[index]) / counts[index], kind="stable")[:MOST])
    return points.take(kept), None if words is None else words[kept]
