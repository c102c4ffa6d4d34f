"""Two tasks at one site, and which two of all are nearest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from softprior.activations.findings.common import ALL, PERMUTATIONS
from softprior.activations.findings.lexical import Lexical, lexical_findings
from softprior.errors import UserError
from softprior.statistics.clusters import Nearest, Separation, nearest, separation
from softprior.statistics.kernels import gaussian_kernel
from softprior.statistics.points import Points, matched, position_bins
from softprior.statistics.probe import Probe, probe
from softprior.statistics.store import load_statistics
from softprior.statistics.swaps import Strata, Swaps, kernel_swaps


@dataclass(frozen=True)
class PairFindings:
    """Two tasks at one site.

    Attributes:
        separation: how far apart they are, on equally many tokens at like positions (`points.matched`).
        swaps: whether they differ at all, on all tokens of the sample, within bins of positions.
        probe: whether a linear probe tells their tokens apart, on the matched ones.
        lexical: both again within token ids, so that the words themselves tell nothing.
    """

    separation: Separation
    swaps: Swaps
    probe: Probe
    lexical: Lexical


def pair_findings(
    store: Path, a: str, b: str, site: str, seed: int, permutations: int = PERMUTATIONS
) -> PairFindings:
    """How far two tasks stand apart at a site, on the samples of their tokens without sinks.

    Raises:
        UserError: a file is missing or damaged, or does not say where its vectors come from.
    """
    (one, words), (other, other_words) = (_points(store, task, site) for task in (a, b))
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
        separation(left, right, seed),
        swaps,
        probe(left, right, seed, permutations=permutations),
        lexical_findings((one, words), (other, other_words), kernel, seed, permutations),
    )


def nearest_findings(
    store: Path, tasks: Sequence[str], site: str, seed: int, permutations: int = PERMUTATIONS
) -> Nearest:
    """Which two of three or more tasks are nearest at a site, on the samples of their tokens without sinks.

    Args:
        permutations: half the bootstrap samples, whose p-value has two sides.

    Raises:
        UserError: as of `pair_findings`.
    """
    return nearest(
        {task: _points(store, task, site)[0] for task in tasks}, seed, resamples=2 * permutations + 1
    )


def _points(store: Path, task: str, site: str) -> tuple[Points, Tensor | None]:
    """The sampled tokens and their ids, which a store made from arrays does not have."""
    found = load_statistics(store, task, site, ALL, None)
    if not {"document", "position"} <= set(found.facts):
        raise UserError(
            f"the statistics of {task} at {site} in {store} do not say which document their sample is from; "
            "make them with python -m jobs.activations"
        )
    points = Points(found.sample, found.facts["document"], found.facts["position"])
    return points, found.facts.get("token")
