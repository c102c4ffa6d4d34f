"""Two tasks at one site, and which two of all are nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softprior.activations.findings.common import ALL, PERMUTATIONS
from softprior.errors import UserError
from softprior.statistics.clusters import Nearest, Points, Separation, matched, nearest, separation
from softprior.statistics.probe import Probe, probe
from softprior.statistics.store import load_statistics


@dataclass(frozen=True)
class PairFindings:
    """Two tasks at one site, on equally many tokens at like positions (`clusters.matched`)."""

    separation: Separation
    probe: Probe


def pair_findings(
    store: Path, a: str, b: str, site: str, seed: int, permutations: int = PERMUTATIONS
) -> PairFindings:
    """How far two tasks stand apart at a site, on the samples of their tokens without sinks.

    Raises:
        UserError: a file is missing or damaged, or does not say where its vectors come from.
    """
    one, other = matched([_points(store, task, site) for task in (a, b)], seed)
    return PairFindings(
        separation(one, other, seed, permutations), probe(one, other, seed, permutations=permutations)
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
    return nearest({task: _points(store, task, site) for task in tasks}, seed, resamples=2 * permutations + 1)


def _points(store: Path, task: str, site: str) -> Points:
    found = load_statistics(store, task, site, ALL, None)
    if not {"document", "position"} <= set(found.facts):
        raise UserError(
            f"the statistics of {task} at {site} in {store} do not say which document their sample is from; "
            "make them with python -m jobs.activations"
        )
    return Points(found.sample, found.facts["document"], found.facts["position"])
